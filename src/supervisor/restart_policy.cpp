#include "supervisor/restart_policy.h"

#include <algorithm>

namespace mlxs::supervisor {

void RestartPolicy::ready(TimePoint now) {
  if (!ready_since_) ready_since_ = now;
}

std::optional<Milliseconds> RestartPolicy::exited(TimePoint now) {
  const bool was_ready = ready_since_.has_value();
  if (was_ready && now - *ready_since_ >= limits_.healthy) {
    doublings_ = 0;
    was_at_once_ = false;
  }
  ready_since_.reset();
  while (!recent_.empty() && now - recent_.front() >= limits_.window) recent_.pop_front();
  if (recent_.size() >= static_cast<std::size_t>(limits_.restarts_max)) return std::nullopt;
  recent_.push_back(now);
  if (limits_.at_once_when_ready && was_ready && !was_at_once_ && doublings_ == 0) {
    was_at_once_ = true;
    return Milliseconds{0};
  }
  Milliseconds delay = limits_.delay_first;
  for (int i = 0; i < doublings_ && delay < limits_.delay_max; ++i) delay *= 2;
  ++doublings_;
  return std::min(delay, limits_.delay_max);
}

void RestartPolicy::forgive() {
  recent_.clear();
  ready_since_.reset();
  doublings_ = 0;
  was_at_once_ = false;
}

}  // namespace mlxs::supervisor
