#include "bench/load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mlxs::bench {
namespace {

constexpr int kBits = 7;  // 128 buckets in each power of two.
constexpr std::size_t kPerPower = std::size_t{1} << kBits;

std::size_t bucket_of(std::uint64_t value) {
  if (value < kPerPower) return value;
  const auto shift = static_cast<int>(std::bit_width(value)) - kBits - 1;
  return kPerPower * static_cast<std::size_t>(shift + 1) + ((value >> shift) - kPerPower);
}

/// The middle of a bucket.
double value_of(std::size_t bucket) {
  if (bucket < kPerPower) return static_cast<double>(bucket);
  const auto shift = static_cast<int>(bucket / kPerPower) - 1;
  return std::ldexp(static_cast<double>(kPerPower + bucket % kPerPower) + 0.5, shift);
}

constexpr double kMillisecond = 1e6;

}  // namespace

Histogram::Histogram() : buckets_(bucket_of(INT64_MAX) + 1) {}

void Histogram::add(std::int64_t nanoseconds) {
  nanoseconds = std::max<std::int64_t>(nanoseconds, 0);
  ++buckets_[bucket_of(static_cast<std::uint64_t>(nanoseconds))];
  ++count_;
  min_ = std::min(min_, nanoseconds);
  max_ = std::max(max_, nanoseconds);
  sum_ += static_cast<double>(nanoseconds);
}

double Histogram::min_ms() const {
  return count_ == 0 ? 0 : static_cast<double>(min_) / kMillisecond;
}
double Histogram::max_ms() const { return static_cast<double>(max_) / kMillisecond; }
double Histogram::mean_ms() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_) / kMillisecond;
}

double Histogram::quantile_ms(double share) const {
  if (count_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= std::max<std::uint64_t>(wanted, 1))
      return std::clamp(value_of(i), static_cast<double>(min_), static_cast<double>(max_)) /
             kMillisecond;
  }
  return max_ms();
}

}  // namespace mlxs::bench
