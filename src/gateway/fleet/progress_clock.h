#pragma once

#include "base/deadline.h"

#include <mutex>

namespace mlxs::gateway {

/// How long a worker has stood still, in all: a clock that pauses while the worker reports steps.
/// Reports are at most kBeat apart while it steps, so that time counts from kBeat after the latest;
/// of a worker that never reports (a foreign one) all time counts. Any thread.
class ProgressClock {
 public:
  /// Twice the longest time between two events of a native worker's state stream.
  static constexpr Milliseconds kBeat{2'000};

  explicit ProgressClock(TimePoint now) : last_(now - kBeat) {}

  /// It reported a step.
  void progressed(TimePoint now);
  /// Its standstill up to `now`; differences of it mean something, not the value.
  [[nodiscard]] Clock::duration stood_still(TimePoint now) const;
  /// When `stood_still` will be `total` if no step comes any more.
  [[nodiscard]] TimePoint reaches(Clock::duration total) const;

 private:
  mutable std::mutex mutex_;
  TimePoint last_;
  Clock::duration before_{0};  // that
};

}  // namespace mlxs::gateway
