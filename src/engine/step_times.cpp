#include "engine/step_times.h"

#include <algorithm>
#include <cstddef>

namespace mlxs::engine {

void StepTimes::add(double seconds) { seconds_[count_++ % kKept] = seconds; }

std::pair<double, double> StepTimes::p50_p95() const {
  const std::size_t kept = std::min(count_, kKept);
  if (kept == 0) return {0, 0};
  std::array<double, kKept> sorted = seconds_;
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(kept));
  const auto rank = [kept](std::size_t percent) { return (kept * percent + 99) / 100 - 1; };
  return {sorted[rank(50)], sorted[rank(95)]};
}

}  // namespace mlxs::engine
