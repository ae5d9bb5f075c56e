#pragma once

#include <array>
#include <cstddef>
#include <utility>

namespace mlxs::engine {

/// Durations of the last 256 steps. Not thread-safe.
class StepTimes {
 public:
  void add(double seconds);
  /// Median and 95th percentile (nearest rank), zero before the first step.
  [[nodiscard]] std::pair<double, double> p50_p95() const;

 private:
  static constexpr std::size_t kKept = 256;
  std::array<double, kKept> seconds_{};
  std::size_t count_ = 0;  // ever added
};

}  // namespace mlxs::engine
