#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "engine/engine.h"
#include "worker/codec.h"
#include "worker/metrics.h"

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

namespace mlxs::worker {

/// The one model of this process: loads on a thread of its own, then holds codec and engine.
/// Loop thread, but for `progress` and `fetching`.
class Model {
 public:
  /// `metrics` and `loop` outlive it.
  Model(boost::asio::io_context& loop,
        ModelLoader loader,
        engine::EngineLimits limits,
        Metrics& metrics);
  ~Model();  ///< As `unload`.
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  /// Begins to load; `done` is called on the loop. `sink` as in Engine::start.
  void load(engine::Engine::StepSink sink, std::function<void(Result<void>)> done);

  [[nodiscard]] bool ready() const { return engine_ != nullptr; }
  [[nodiscard]] double progress() const { return progress_.load(std::memory_order_relaxed); }
  /// While the model comes from a hub, how much of it has; nothing before and after.
  [[nodiscard]] std::optional<FetchProgress> fetching() const;
  /// Both only when ready.
  [[nodiscard]] const Codec& codec() const { return *codec_; }
  [[nodiscard]] engine::Engine& engine() { return *engine_; }
  [[nodiscard]] const engine::EngineLimits& limits() const { return limits_; }

  /// Waits for a load under way, ends the engine thread after the step under way. `ready` is false
  /// from then on. Before `loop` ends.
  void unload();

 private:
  struct Loaded {
    std::unique_ptr<Codec> codec;
    std::unique_ptr<engine::Engine> engine;
  };
  [[nodiscard]] Result<Loaded> load_now(engine::Engine::StepSink sink);
  [[nodiscard]] Result<void> fetch();

  boost::asio::io_context& loop_;
  const ModelLoader loader_;
  const engine::EngineLimits limits_;
  Metrics& metrics_;
  std::atomic<double> progress_{0};
  std::atomic<bool> fetching_{false};
  std::atomic<std::uint64_t> fetched_bytes_{0};
  std::atomic<std::uint64_t> fetch_bytes_total_{0};
  std::unique_ptr<Codec> codec_;
  std::unique_ptr<engine::Engine> engine_;
  std::thread loading_;
};

}  // namespace mlxs::worker
