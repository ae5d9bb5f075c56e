#include "gateway/fleet/progress_clock.h"

#include <algorithm>

namespace mlxs::gateway {

void ProgressClock::progressed(TimePoint now) {
  const std::lock_guard lock{mutex_};
  before_ += std::max(now - last_ - kBeat, Clock::duration{0});
  last_ = now;
}

Clock::duration ProgressClock::stood_still(TimePoint now) const {
  const std::lock_guard lock{mutex_};
  return before_ + std::max(now - last_ - kBeat, Clock::duration{0});
}

TimePoint ProgressClock::reaches(Clock::duration total) const {
  const std::lock_guard lock{mutex_};
  return last_ + kBeat + (total - before_);
}

}  // namespace mlxs::gateway
