#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::bench {

/// Times in nanoseconds, kept to within 1 %: buckets of equal width in each power of two, as
/// HdrHistogram has them. Fixed memory, however many values come.
class Histogram {
 public:
  Histogram();
  void add(std::int64_t nanoseconds);
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] double min_ms() const;
  [[nodiscard]] double max_ms() const;
  [[nodiscard]] double mean_ms() const;
  /// `share` in [0, 1]; 0 when empty.
  [[nodiscard]] double quantile_ms(double share) const;

 private:
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  std::int64_t min_ = INT64_MAX;
  std::int64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace mlxs::bench
