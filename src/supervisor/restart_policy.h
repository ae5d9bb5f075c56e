#pragma once

#include "base/deadline.h"

#include <deque>
#include <optional>

namespace mlxs::supervisor {

struct RestartLimits {
  Milliseconds delay_first{100};  ///< Doubles with each restart up to delay_max.
  Milliseconds delay_max{5'000};
  int restarts_max = 10;  ///< Within `window`; then it is given up.
  Milliseconds window{60'000};
  Milliseconds healthy{10'000};     ///< Ready for this long: the delay starts over.
  bool at_once_when_ready = false;  ///< The first restart of a process that was ready has no delay.
};

/// Decides whether and when a process that ended by itself is started again.
/// Plain state: no clock, no process; the same calls give the same answers.
class RestartPolicy {
 public:
  explicit RestartPolicy(const RestartLimits& limits) : limits_(limits) {}

  /// The running process can do its work.
  void ready(TimePoint now);
  /// It ended unasked. How long to wait before the next start; nothing: too often, give up.
  [[nodiscard]] std::optional<Milliseconds> exited(TimePoint now);
  /// Forgets all ends so far: somebody asked for another try.
  void forgive();

 private:
  RestartLimits limits_;
  std::deque<TimePoint> recent_;  ///< Ends within the window.
  std::optional<TimePoint> ready_since_;
  int doublings_ = 0;
  bool was_at_once_ = false;
};

}  // namespace mlxs::supervisor
