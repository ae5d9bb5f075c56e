#pragma once

#include <cstdint>
#include <cstring>

// Chosen at load time for the machine at hand; the plain one is the architecture's baseline.
#if defined(__x86_64__) && defined(__GNUC__)
#define MLXS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MLXS_CLONES
#endif
#define MLXS_INLINE inline __attribute__((always_inline))

namespace mlxs::engine {

inline constexpr int kLanes = 16;

/// Sixteen floats, which compilers turn into one, two or four registers. Passed by reference only:
/// how wide vectors travel by value depends on the instruction set.
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using IntLanes = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));

MLXS_INLINE void load(const float* from, Lanes& to) { std::memcpy(&to, from, sizeof to); }
MLXS_INLINE void store(const Lanes& from, float* to) { std::memcpy(to, &from, sizeof from); }

MLXS_INLINE float sum_of(const Lanes& x) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += x[lane];
  return total;
}

/// x becomes e^x, within 2 units in the last place; below -87 it becomes a tiny number, above 88
/// the largest finite ones. Cephes' expf: e^x = 2^n · e^r with |r| <= ln(2)/2.
MLXS_INLINE void exp_lanes(Lanes& x) {
  const Lanes low = Lanes{} - 87.33f;
  const Lanes high = Lanes{} + 88.37f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  // Adding and taking away 1.5 · 2^23 rounds to the nearest whole number.
  const Lanes round = Lanes{} + 12582912.0f;
  const Lanes n = (x * 1.44269504088896341f + round) - round;
  const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = Lanes{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const IntLanes exponent = (__builtin_convertvector(n, IntLanes) + 127) << 23;
  Lanes power;
  std::memcpy(&power, &exponent, sizeof power);
  x = p * power;
}

}  // namespace mlxs::engine
