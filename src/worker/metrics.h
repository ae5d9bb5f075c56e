#pragma once

#include "base/error.h"
#include "engine/engine.h"
#include "telemetry/metrics.h"

#include <string>
#include <string_view>

namespace mlxs::worker {

/// The worker's series. Those named vllm: mean what vLLM's mean, so that its dashboards work.
/// Any thread, but for `set_engine`.
class Metrics {
 public:
  explicit Metrics(const std::string& model);

  /// Counts an answer that ended by itself: finished_reason stop, length, error or abort.
  void count_finished(std::string_view reason);
  void count_rejected(ErrorCode code);
  /// Copies what the engine counts. Loop thread.
  void set_engine(const engine::EngineStats& stats);

  [[nodiscard]] std::string expose() const { return registry_.expose(); }

 private:
  telemetry::Registry registry_;
  telemetry::Labels labels_;
  engine::EngineStats last_;  ///< What the engine's counters were when they were last copied.

 public:
  telemetry::Histogram& time_to_first_token;
  telemetry::Histogram& inter_token;
  telemetry::Histogram& request_seconds;
  telemetry::Histogram& request_prompt_tokens;
  telemetry::Histogram& request_generation_tokens;
  telemetry::Histogram& step_seconds;
  telemetry::Histogram& step_tokens;
  telemetry::Histogram& batch_size;
  telemetry::Gauge& load_seconds;

 private:
  telemetry::Gauge& running_;
  telemetry::Gauge& waiting_;
  telemetry::Gauge& kv_usage_;
  telemetry::Counter& prompt_tokens_;
  telemetry::Counter& generation_tokens_;
  telemetry::Counter& preemptions_;
  telemetry::Counter& prefix_queries_;
  telemetry::Counter& prefix_hits_;
  telemetry::Gauge& blocks_cached_;
  telemetry::Gauge& window_blocks_used_;
};

}  // namespace mlxs::worker
