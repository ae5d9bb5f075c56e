#pragma once

#include "base/deadline.h"
#include "base/error.h"
#include "engine/engine.h"
#include "worker/generation.h"
#include "worker/metrics.h"

#include <cstddef>
#include <string_view>
#include <vector>

namespace mlxs::worker {

/// OpenAI's finish_reason; kError has none and is a fault to ask for.
[[nodiscard]] std::string_view finish_name(engine::FinishReason reason);

/// Turns one request's pieces into metrics; one that ends before all of its choices counts as
/// aborted, or as failed. Its prompt is counted once, the tokens of its choices together. Loop
/// thread.
class Observer {
 public:
  /// `metrics` outlives it.
  Observer(Metrics& metrics, TimePoint arrived_at, std::size_t choices)
      : metrics_(metrics), arrived_at_(arrived_at), last_at_(choices), unfinished_(choices) {}
  ~Observer();
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  void produced(const Piece& piece);
  void failed(const Error& error);

 private:
  void finish(std::string_view reason);

  Metrics& metrics_;
  const TimePoint arrived_at_;
  std::vector<TimePoint> last_at_;  ///< When a choice's last token came; zero before the first.
  std::size_t unfinished_;
  int completion_tokens_ = 0;
  bool begun_ = false;
  bool counted_ = false;
};

}  // namespace mlxs::worker
