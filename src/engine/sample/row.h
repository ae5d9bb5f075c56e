#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace mlxs::engine {

// Passes over a row of logits, written so that the compiler turns them into SIMD code: fixed-width
// inner loops over independent lanes, no branches, no library calls.

inline constexpr std::size_t kLanes = 16;   // one AVX-512, two AVX2, four SSE2 or NEON registers
inline constexpr std::size_t kBlock = 512;  // tokens whose weights are summed together

struct RowBest {
  float value = 0;
  std::size_t index = 0;  ///< The lowest among equals.
  bool broken = false;    ///< A NaN or +inf, or nothing above -inf; the others are unspecified.
};
[[nodiscard]] RowBest find_best(std::span<const float> logits);

/// Whether any of at most kLanes values is in [low, high).
[[nodiscard]] bool any_within(std::span<const float> values, float low, float high);

/// e^x for x in [-inf, 0] with a relative error below 2e-7; 0 below -87, e^0 is exactly 1.
[[nodiscard]] float exp_negative(float x);

/// weights[i] = exp_negative((logits[i] - best) * scale) for at most kBlock tokens; returns their
/// sum. Sizes are equal.
[[nodiscard]] double weigh(std::span<const float> logits,
                           float best,
                           float scale,
                           std::span<float> weights);

inline constexpr std::size_t kThresholds = 8;
/// The sum of a row's weights at or above each threshold.
[[nodiscard]] std::array<double, kThresholds> weight_above(
    std::span<const float> weights, const std::array<float, kThresholds>& thresholds);

/// Zeroes the weights below `at_least`, of at most kBlock tokens; returns the sum of the others.
[[nodiscard]] double cut(std::span<float> weights, float at_least);

}  // namespace mlxs::engine
