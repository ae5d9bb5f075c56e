#pragma once

#include "engine/engine.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

namespace mlxs::engine {

/// Collects an engine's events, so that tests can wait for them. Any thread; outlives the engine.
class EventLog {
 public:
  [[nodiscard]] Engine::StepSink sink();

  /// Everything a sequence has got, joined: ids, text and logprobs together, the rest from its
  /// last event.
  /// Waits for the event with a finish reason; fails the test after 30 s.
  [[nodiscard]] GenerationEvent finished(SequenceId id);
  /// Waits until `enough` holds of all events in the order they came; fails the test after 30 s.
  void wait(const std::function<bool(const std::vector<GenerationEvent>&)>& enough);
  [[nodiscard]] std::vector<GenerationEvent> all() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<GenerationEvent> events_;
};

}  // namespace mlxs::engine
