#pragma once

#include "base/deadline.h"
#include "base/error.h"
#include "engine/engine.h"
#include "worker/generation.h"
#include "worker/metrics.h"

#include <string_view>

namespace mlxs::worker {

/// OpenAI's finish_reason; kError has none and is a fault to ask for.
[[nodiscard]] std::string_view finish_name(engine::FinishReason reason);

/// Turns one generation's pieces into metrics; one that ends without a last piece counts as
/// aborted. Loop thread.
class Observer {
 public:
  /// `metrics` outlives it.
  Observer(Metrics& metrics, TimePoint arrived_at) : metrics_(metrics), arrived_at_(arrived_at) {}
  ~Observer();
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  void produced(const Piece& piece);
  void failed(const Error& error);

 private:
  void finish(std::string_view reason);

  Metrics& metrics_;
  const TimePoint arrived_at_;
  TimePoint last_at_{};  ///< When the last token came; zero before the first.
  bool counted_ = false;
};

}  // namespace mlxs::worker
