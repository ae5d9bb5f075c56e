#pragma once

#include "engine/engine.h"
#include "engine/types.h"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace mlxs::bench {

using Moment = std::chrono::steady_clock::time_point;

/// What came of one sequence, and when.
struct Track {
  Moment submitted;
  std::vector<Moment> token_times;  ///< One for each token, in order.
  std::vector<engine::TokenId> tokens;
  bool finished = false;
  bool failed = false;
};

/// An engine whose events are kept with the time they came. Main thread, but for the sink.
class Collector {
 public:
  /// Ends the process with a message when the model cannot be loaded.
  Collector(const std::string& source, const engine::EngineLimits& limits);

  engine::SequenceId submit(std::vector<engine::TokenId> prompt, int completion_tokens);
  void cancel_all();
  /// Blocks until `condition` holds for the tracks, looking after each step.
  using Tracks = std::map<engine::SequenceId, Track>;
  void wait(const std::function<bool(const Tracks&)>& condition);
  /// When the steps ended that gave something.
  [[nodiscard]] std::vector<Moment> steps() const;
  [[nodiscard]] Tracks tracks() const;
  [[nodiscard]] engine::Engine& engine() { return *engine_; }

 private:
  void take(std::vector<engine::GenerationEvent>&& events);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Tracks tracks_;
  std::vector<Moment> steps_;
  std::uint64_t next_id_ = 1;
  std::unique_ptr<engine::Engine> engine_;  // Last: its thread uses the rest.
};

}  // namespace mlxs::bench
