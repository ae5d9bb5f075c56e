// Compiled for AVX2, FMA and F16C, called where the machine has them. Nothing inline from elsewhere
// may be used here: the linker could keep this file's copy of it for everyone.

#include "engine/ops/cpu/attention_kernels.h"

#include <immintrin.h>

namespace mlxs::engine {
namespace {

constexpr int kLanes = 8;
constexpr int kQueries = 2;  // At once: their sums and what is loaded fit the registers.
constexpr int kStrip = 4;    // Registers of values' columns at once.

inline __attribute__((always_inline)) __m256 load_halves(const std::uint16_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

void to_half(const float* x, int count, std::uint16_t* out) {
  const __m256 most = _mm256_set1_ps(65504.0f);
  const __m256 least = _mm256_set1_ps(-65504.0f);
  for (int i = 0; i < count; i += kLanes) {
    // The second operand is the result where one is not a number.
    const __m256 value = _mm256_max_ps(least, _mm256_min_ps(most, _mm256_loadu_ps(x + i)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
}

template <int kCount>
void score_some(const float* const* queries,
                const std::uint16_t* keys,
                int width,
                float* scores,
                std::int64_t stride) {
  constexpr int kRegisters = kKeyBlock / kLanes;
  __m256 sums[kRegisters * kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters * kCount; ++i) sums[i] = _mm256_setzero_ps();
  for (int d = 0; d < width; ++d, keys += kKeyBlock) {
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) {
      const __m256 some = load_halves(keys + r * kLanes);
#pragma GCC unroll 2
      for (int i = 0; i < kCount; ++i) {
        __m256& sum = sums[i * kRegisters + r];
        sum = _mm256_fmadd_ps(some, _mm256_set1_ps(queries[i][d]), sum);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRegisters * kCount; ++i) {
    _mm256_storeu_ps(scores + i / kRegisters * stride + i % kRegisters * kLanes, sums[i]);
  }
}

void score(const float* const* queries,
           int query_count,
           const std::uint16_t* keys,
           int width,
           float* scores,
           std::int64_t stride) {
  int i = 0;
  for (; i + kQueries <= query_count; i += kQueries) {
    score_some<2>(queries + i, keys, width, scores + i * stride, stride);
  }
  if (i < query_count) score_some<1>(queries + i, keys, width, scores + i * stride, stride);
}

template <int kCount, int kRegisters>
inline __attribute__((always_inline)) void add_strip(const float* weights,
                                                     std::int64_t stride,
                                                     const std::uint16_t* values,
                                                     int count,
                                                     int width,
                                                     float* const* outs,
                                                     int column) {
  __m256 sums[kCount * kRegisters];
#pragma GCC unroll 16
  for (int i = 0; i < kCount * kRegisters; ++i) {
    sums[i] = _mm256_loadu_ps(outs[i / kRegisters] + column + i % kRegisters * kLanes);
  }
  values += column;
  for (int k = 0; k < count; ++k, values += width) {
    __m256 row[kRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) row[r] = load_halves(values + r * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const __m256 weight = _mm256_set1_ps(weights[i * stride + k]);
#pragma GCC unroll 4
      for (int r = 0; r < kRegisters; ++r) {
        sums[i * kRegisters + r] = _mm256_fmadd_ps(row[r], weight, sums[i * kRegisters + r]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount * kRegisters; ++i) {
    _mm256_storeu_ps(outs[i / kRegisters] + column + i % kRegisters * kLanes, sums[i]);
  }
}

template <int kCount>
void add_some(const float* weights,
              std::int64_t stride,
              const std::uint16_t* values,
              int count,
              int width,
              float* const* outs) {
  int column = 0;
  for (; column + kStrip * kLanes <= width; column += kStrip * kLanes) {
    add_strip<kCount, kStrip>(weights, stride, values, count, width, outs, column);
  }
  for (; column < width; column += kLanes) {
    add_strip<kCount, 1>(weights, stride, values, count, width, outs, column);
  }
}

void add_weighted(const float* weights,
                  std::int64_t stride,
                  int query_count,
                  const std::uint16_t* values,
                  int count,
                  int width,
                  float* const* outs) {
  int i = 0;
  for (; i + kQueries <= query_count; i += kQueries) {
    add_some<2>(weights + i * stride, stride, values, count, width, outs + i);
  }
  if (i < query_count) add_some<1>(weights + i * stride, stride, values, count, width, outs + i);
}

}  // namespace

const AttentionKernels kAvx2Attention = {to_half, score, add_weighted};

}  // namespace mlxs::engine
