#include "engine/sample/row.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

// The passes are compiled for wider vectors, too, and chosen when the program starts. Sums go over
// lanes in one order and nothing is contracted (CMakeLists.txt), so all of them give the same bits.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define MLXS_VECTOR_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MLXS_VECTOR_CLONES
#endif

namespace mlxs::engine {
namespace {

[[gnu::always_inline]] inline float exp_lane(float x) {
  // Cephes' expf: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by a polynomial, 2^n by its exponent.
  constexpr float kLowest = -87.0f;      // 2^-126 is e^-87.3
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x > kLowest ? x : kLowest;
  const float n = (clamped * 1.44269504088896341f + kRound) - kRound;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * r) * r + r + 1.0f;
  const auto exponent = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23;
  const float result = e * std::bit_cast<float>(exponent);
  return x < kLowest ? 0.0f : result;
}

[[gnu::always_inline]] inline double sum(std::span<const float> values) {
  std::array<float, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) sums[j] += values[i + j];
  for (; i < values.size(); ++i) sums[0] += values[i];
  double total = 0;
  for (const float lane : sums) total += lane;
  return total;
}

}  // namespace

MLXS_VECTOR_CLONES RowBest find_best(std::span<const float> logits) {
  constexpr float kLeast = -std::numeric_limits<float>::infinity();
  constexpr float kGreatest = std::numeric_limits<float>::max();
  RowBest best{.value = kLeast, .index = 0, .broken = false};
  std::array<std::uint32_t, kLanes> bad{};
  for (std::size_t from = 0; from < logits.size(); from += kBlock) {
    const std::size_t size = std::min(kBlock, logits.size() - from);
    const float* block = logits.data() + from;
    std::array<float, kLanes> most;
    most.fill(kLeast);
    std::size_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (std::size_t j = 0; j < kLanes; ++j) {
        most[j] = block[i + j] > most[j] ? block[i + j] : most[j];
        bad[j] |= static_cast<std::uint32_t>(!(block[i + j] <= kGreatest));  // NaN or +inf
      }
    for (; i < size; ++i) {
      most[0] = std::max(most[0], block[i]);
      bad[0] |= static_cast<std::uint32_t>(!(block[i] <= kGreatest));
    }
    const float block_best = *std::max_element(most.begin(), most.end());
    if (block_best <= best.value) continue;
    best.value = block_best;
    best.index = from;
  }
  best.broken = best.value == kLeast ||
                std::any_of(bad.begin(), bad.end(), [](std::uint32_t lane) { return lane != 0; });
  if (best.broken) return best;
  while (logits[best.index] != best.value) ++best.index;
  return best;
}

MLXS_VECTOR_CLONES bool any_within(std::span<const float> values, float low, float high) {
  std::uint32_t any = 0;
  if (values.size() == kLanes) {
    const float* lanes = values.data();
    for (std::size_t j = 0; j < kLanes; ++j)
      any |=
          static_cast<std::uint32_t>(lanes[j] >= low) & static_cast<std::uint32_t>(lanes[j] < high);
  } else {
    for (const float value : values)
      any |= static_cast<std::uint32_t>(value >= low && value < high);
  }
  return any != 0;
}

float exp_negative(float x) { return exp_lane(x); }

MLXS_VECTOR_CLONES double weigh(std::span<const float> logits,
                                float best,
                                float scale,
                                std::span<float> weights) {
  const std::size_t size = logits.size();
  const float* from = logits.data();
  float* to = weights.data();
  for (std::size_t i = 0; i < size; ++i) to[i] = exp_lane((from[i] - best) * scale);
  return sum(weights);
}

MLXS_VECTOR_CLONES std::array<double, kThresholds> weight_above(
    std::span<const float> weights, const std::array<float, kThresholds>& thresholds) {
  // Written with vectors, since GCC vectorises no nest of loops as deep as this one. Four lanes and
  // one accumulator a threshold are what fits into the sixteen registers of SSE2.
  using Lanes = float __attribute__((vector_size(16)));
  constexpr std::size_t kWidth = sizeof(Lanes) / sizeof(float);
  std::array<double, kThresholds> above{};
  for (std::size_t from = 0; from < weights.size(); from += kBlock) {
    const float* block = weights.data() + from;
    const std::size_t size = std::min(kBlock, weights.size() - from);
    std::array<Lanes, kThresholds> sums{};
    const auto add = [&](Lanes weight) {
      for (std::size_t c = 0; c < kThresholds; ++c)
        sums[c] += weight >= thresholds[c] ? weight : Lanes{};
    };
    std::size_t i = 0;
    for (; i + kWidth <= size; i += kWidth) {
      Lanes weight;
      std::memcpy(&weight, block + i, sizeof weight);
      add(weight);
    }
    for (; i < size; ++i) add(Lanes{block[i]});
    for (std::size_t c = 0; c < kThresholds; ++c)
      for (std::size_t j = 0; j < kWidth; ++j) above[c] += sums[c][j];
  }
  return above;
}

MLXS_VECTOR_CLONES double cut(std::span<float> weights, float at_least) {
  float* block = weights.data();
  const std::size_t size = weights.size();
  for (std::size_t i = 0; i < size; ++i) block[i] = block[i] >= at_least ? block[i] : 0.0f;
  return sum(weights);
}

}  // namespace mlxs::engine
