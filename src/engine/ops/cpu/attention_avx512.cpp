// Compiled for AVX-512, called where the machine has it. Nothing inline from elsewhere may be used
// here: the linker could keep this file's copy of it for everyone.

#include "engine/ops/cpu/attention_kernels.h"

#include <immintrin.h>

namespace mlxs::engine {
namespace {

constexpr int kLanes = 16;
constexpr int kQueries = 4;  // At once: their sums and what is loaded fit the registers.
constexpr int kStrip = 4;    // Registers of values' columns at once.

inline __attribute__((always_inline)) __m512 load_halves(const std::uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

void to_half(const float* x, int count, std::uint16_t* out) {
  const __m512 most = _mm512_set1_ps(65504.0f);
  const __m512 least = _mm512_set1_ps(-65504.0f);
  for (int i = 0; i < count; i += kLanes) {
    // The second operand is the result where one is not a number.
    const __m512 value = _mm512_max_ps(least, _mm512_min_ps(most, _mm512_loadu_ps(x + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                        _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
}

template <int kCount>
void score_some(const float* const* queries,
                const std::uint16_t* keys,
                int width,
                float* scores,
                std::int64_t stride) {
  __m512 sums[2 * kCount];
#pragma GCC unroll 8
  for (int i = 0; i < 2 * kCount; ++i) sums[i] = _mm512_setzero_ps();
  for (int d = 0; d < width; ++d, keys += kKeyBlock) {
    const __m512 low = load_halves(keys);
    const __m512 high = load_halves(keys + kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const __m512 query = _mm512_set1_ps(queries[i][d]);
      sums[2 * i] = _mm512_fmadd_ps(low, query, sums[2 * i]);
      sums[2 * i + 1] = _mm512_fmadd_ps(high, query, sums[2 * i + 1]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 2 * kCount; ++i) {
    _mm512_storeu_ps(scores + i / 2 * stride + i % 2 * kLanes, sums[i]);
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
    score_some<4>(queries + i, keys, width, scores + i * stride, stride);
  }
  float* const to = scores + i * stride;
  switch (query_count - i) {
    case 3:
      return score_some<3>(queries + i, keys, width, to, stride);
    case 2:
      return score_some<2>(queries + i, keys, width, to, stride);
    case 1:
      return score_some<1>(queries + i, keys, width, to, stride);
    default:
      return;
  }
}

template <int kCount, int kRegisters>
inline __attribute__((always_inline)) void add_strip(const float* weights,
                                                     std::int64_t stride,
                                                     const std::uint16_t* values,
                                                     int count,
                                                     int width,
                                                     float* const* outs,
                                                     int column) {
  __m512 sums[kCount * kRegisters];
#pragma GCC unroll 16
  for (int i = 0; i < kCount * kRegisters; ++i) {
    sums[i] = _mm512_loadu_ps(outs[i / kRegisters] + column + i % kRegisters * kLanes);
  }
  values += column;
  for (int k = 0; k < count; ++k, values += width) {
    __m512 row[kRegisters];
#pragma GCC unroll 4
    for (int r = 0; r < kRegisters; ++r) row[r] = load_halves(values + r * kLanes);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      const __m512 weight = _mm512_set1_ps(weights[i * stride + k]);
#pragma GCC unroll 4
      for (int r = 0; r < kRegisters; ++r) {
        sums[i * kRegisters + r] = _mm512_fmadd_ps(row[r], weight, sums[i * kRegisters + r]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount * kRegisters; ++i) {
    _mm512_storeu_ps(outs[i / kRegisters] + column + i % kRegisters * kLanes, sums[i]);
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
    add_some<4>(weights + i * stride, stride, values, count, width, outs + i);
  }
  const float* const from = weights + i * stride;
  switch (query_count - i) {
    case 3:
      return add_some<3>(from, stride, values, count, width, outs + i);
    case 2:
      return add_some<2>(from, stride, values, count, width, outs + i);
    case 1:
      return add_some<1>(from, stride, values, count, width, outs + i);
    default:
      return;
  }
}

}  // namespace

const AttentionKernels kAvx512Attention = {to_half, score, add_weighted};

}  // namespace mlxs::engine
