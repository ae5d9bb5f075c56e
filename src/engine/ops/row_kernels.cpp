#include "engine/ops/row_kernels.h"

#include "engine/ops/lanes.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mlxs::engine {
namespace {

/// The last, incomplete lanes of a row, filled up with `rest`.
MLXS_INLINE void load_tail(const float* from, int count, float rest, Lanes& to) {
  to = Lanes{} + rest;
  std::memcpy(&to, from, static_cast<std::size_t>(count) * sizeof(float));
}

MLXS_INLINE void store_tail(const Lanes& from, int count, float* to) {
  std::memcpy(to, &from, static_cast<std::size_t>(count) * sizeof(float));
}

MLXS_INLINE void silu_lanes(Lanes& gate, const Lanes& up) {
  Lanes power = -gate;
  exp_lanes(power);
  gate = gate / (power + 1.0f) * up;
}

/// (1 + tanh(u))/2 is 1/(1 + e^-2u).
MLXS_INLINE void gelu_tanh_lanes(Lanes& gate, const Lanes& up) {
  constexpr float kMinusTwice = -2 * 0.7978845608028654f;  // -2·√(2/π)
  Lanes power = (gate + gate * gate * gate * 0.044715f) * kMinusTwice;
  exp_lanes(power);
  gate = gate / (power + 1.0f) * up;
}

/// Gates a row by lanes, and what is left of it by lanes filled up with zeros.
template <class Gate>
MLXS_INLINE void gate_row(
    const float* gate, const float* up, int width, float* out, const Gate& apply) {
  int i = 0;
  Lanes a;
  Lanes b;
  for (; i + kLanes <= width; i += kLanes) {
    load(gate + i, a);
    load(up + i, b);
    apply(a, b);
    store(a, out + i);
  }
  if (i == width) return;
  load_tail(gate + i, width - i, 0, a);
  load_tail(up + i, width - i, 0, b);
  apply(a, b);
  store_tail(a, width - i, out + i);
}

/// Near zero a polynomial, since 1 - 2/(e^2x + 1) has no relative precision there. Cephes' tanhf.
MLXS_INLINE void tanh_lanes(Lanes& x) {
  const Lanes z = x * x;
  Lanes near = Lanes{} - 5.70498872745e-3f;
  near = near * z + 2.06390887954e-2f;
  near = near * z - 5.37397155531e-2f;
  near = near * z + 1.33314422036e-1f;
  near = near * z - 3.33332819422e-1f;
  near = near * z * x + x;
  Lanes power = x * 2.0f;
  exp_lanes(power);
  const Lanes far = 1.0f - 2.0f / (power + 1.0f);
  x = z < 0.390625f ? near : far;  // 0.625²
}

constexpr int kQueriesAtOnce = 4;
constexpr int kSlice = 64;  // Columns that are turned at a time.

/// Swaps the off-diagonal blocks of 2·kStep × 2·kStep matrices, of two of their rows.
template <int kStep>
MLXS_INLINE void swap_blocks(Lanes& a, Lanes& b) {
  const Lanes low = a;
  if constexpr (kStep == 1) {
    a = __builtin_shufflevector(low, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    b = __builtin_shufflevector(low, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
  } else if constexpr (kStep == 2) {
    a = __builtin_shufflevector(low, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    b = __builtin_shufflevector(low, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  } else if constexpr (kStep == 4) {
    a = __builtin_shufflevector(low, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    b = __builtin_shufflevector(low, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  } else {
    a = __builtin_shufflevector(low, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    b = __builtin_shufflevector(
        low, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
}

template <int kStep>
MLXS_INLINE void swap_all_blocks(Lanes* matrix) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) == 0) swap_blocks<kStep>(matrix[i], matrix[i + kStep]);
  }
}

/// Columns [0, kLanes) of `lanes` rows, each with zeros in the other lanes.
MLXS_INLINE void load_columns(const float* rows, int lanes, int width, Lanes* columns) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    columns[i] = Lanes{};
    if (i < lanes) load(rows + static_cast<std::ptrdiff_t>(i) * width, columns[i]);
  }
  swap_all_blocks<1>(columns);
  swap_all_blocks<2>(columns);
  swap_all_blocks<4>(columns);
  swap_all_blocks<8>(columns);
}

/// Adds a slice's share to the scores of kQueries with kLanes rows. Whatever the number of queries
/// and rows, a score is a sum over columns in their order.
template <int kQueries>
MLXS_INLINE void score_lanes(const float* const* queries,
                             int first_column,
                             const Lanes* columns,
                             int slice,
                             int lanes,
                             float* scores,
                             std::int64_t stride) {
  Lanes sums[kQueries];
#pragma GCC unroll 4
  for (int i = 0; i < kQueries; ++i) {
    sums[i] = Lanes{};
    if (first_column > 0) load_tail(scores + i * stride, lanes, 0, sums[i]);
  }
  for (int d = 0; d < slice; ++d) {
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) sums[i] += columns[d] * queries[i][first_column + d];
  }
#pragma GCC unroll 4
  for (int i = 0; i < kQueries; ++i) {
    if (lanes == kLanes) {
      store(sums[i], scores + i * stride);
    } else {
      store_tail(sums[i], lanes, scores + i * stride);
    }
  }
}

/// Adds `count` weighted rows to kParts·kLanes columns of kQueries results, row by row.
template <int kQueries, int kParts>
MLXS_INLINE void add_lanes(const float* weights,
                           std::int64_t stride,
                           const float* rows,
                           int count,
                           int width,
                           float* const* outs,
                           int column) {
  Lanes sums[kQueries * kParts];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries * kParts; ++i) {
    load(outs[i / kParts] + column + i % kParts * kLanes, sums[i]);
  }
  for (int row = 0; row < count; ++row, rows += width) {
    Lanes values[kParts];
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) load(rows + part * kLanes, values[part]);
#pragma GCC unroll 8
    for (int i = 0; i < kQueries * kParts; ++i) {
      sums[i] += values[i % kParts] * weights[i / kParts * stride + row];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries * kParts; ++i) {
    store(sums[i], outs[i / kParts] + column + i % kParts * kLanes);
  }
}

/// Calls `work` with min(count, kQueriesAtOnce) as a constant.
template <class Work>
MLXS_INLINE void for_some(int count, const Work& work) {
  switch (std::min(count, kQueriesAtOnce)) {
    case 1:
      return work(std::integral_constant<int, 1>());
    case 2:
      return work(std::integral_constant<int, 2>());
    case 3:
      return work(std::integral_constant<int, 3>());
    default:
      return work(std::integral_constant<int, 4>());
  }
}

}  // namespace

MLXS_CLONES void rms_norm_row(
    const float* x, const float* weight, int width, float eps, float* out) {
  Lanes squares{};
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    Lanes value;
    load(x + i, value);
    squares += value * value;
  }
  float sum = sum_of(squares);
  for (; i < width; ++i) sum += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
  for (i = 0; i < width; ++i) out[i] = x[i] * factor * weight[i];
}

MLXS_CLONES void silu_gate_row(const float* gate, const float* up, int width, float* out) {
  gate_row(gate, up, width, out, [](Lanes& a, const Lanes& b) __attribute__((always_inline)) {
    silu_lanes(a, b);
  });
}

MLXS_CLONES void gelu_tanh_gate_row(const float* gate, const float* up, int width, float* out) {
  gate_row(gate, up, width, out, [](Lanes& a, const Lanes& b) __attribute__((always_inline)) {
    gelu_tanh_lanes(a, b);
  });
}

MLXS_CLONES void softcap_row(float* scores, int count, float cap) {
  const float inverse = 1.0f / cap;
  int i = 0;
  Lanes value;
  for (; i + kLanes <= count; i += kLanes) {
    load(scores + i, value);
    value *= inverse;
    tanh_lanes(value);
    value *= cap;
    store(value, scores + i);
  }
  if (i == count) return;
  load_tail(scores + i, count - i, 0, value);
  value *= inverse;
  tanh_lanes(value);
  value *= cap;
  store_tail(value, count - i, scores + i);
}

MLXS_CLONES void rope_head(
    const float* x, const float* cosines, const float* sines, int half, float* out) {
  for (int i = 0; i < half; ++i) {
    out[i] = x[i] * cosines[i] - x[half + i] * sines[i];
    out[half + i] = x[i] * sines[i] + x[half + i] * cosines[i];
  }
}

MLXS_CLONES void rope_head_of_neighbours(
    const float* x, const float* cosines, const float* sines, int half, float* out) {
  for (int i = 0; i < half; ++i) {
    out[2 * i] = x[2 * i] * cosines[i] - x[2 * i + 1] * sines[i];
    out[2 * i + 1] = x[2 * i] * sines[i] + x[2 * i + 1] * cosines[i];
  }
}

MLXS_CLONES void score_rows(const float* const* queries,
                            int query_count,
                            const float* rows,
                            int count,
                            int width,
                            float* scores,
                            std::int64_t stride) {
  Lanes columns[kSlice];
  for (int row = 0; row < count; row += kLanes) {
    const int lanes = std::min(kLanes, count - row);
    for (int d = 0; d < width; d += kSlice) {
      const int slice = std::min(kSlice, width - d);
      const float* const from = rows + static_cast<std::ptrdiff_t>(row) * width + d;
      for (int i = 0; i < slice; i += kLanes) load_columns(from + i, lanes, width, columns + i);
      for (int first = 0; first < query_count; first += kQueriesAtOnce) {
        const float* const* some = queries + first;
        float* const to = scores + first * stride + row;
        for_some(query_count - first, [&](auto number) __attribute__((always_inline)) {
          score_lanes<number.value>(some, d, columns, slice, lanes, to, stride);
        });
      }
    }
  }
}

MLXS_CLONES void add_weighted_rows(const float* weights,
                                   std::int64_t stride,
                                   int query_count,
                                   const float* rows,
                                   int count,
                                   int width,
                                   float* const* outs) {
  for (int first = 0; first < query_count; first += kQueriesAtOnce) {
    const float* const some = weights + first * stride;
    float* const* const to = outs + first;
    for_some(query_count - first, [&](auto number) __attribute__((always_inline)) {
      int d = 0;
      for (; d + 2 * kLanes <= width; d += 2 * kLanes) {
        add_lanes<number.value, 2>(some, stride, rows + d, count, width, to, d);
      }
      if (d < width) add_lanes<number.value, 1>(some, stride, rows + d, count, width, to, d);
    });
  }
}

MLXS_CLONES void softmax_row(float* scores, int count) {
  if (count == 0) return;
  float best = scores[0];
  int i = 0;
  Lanes value;
  Lanes most = Lanes{} + best;
  for (; i + kLanes <= count; i += kLanes) {
    load(scores + i, value);
    most = value > most ? value : most;
  }
  for (; i < count; ++i) best = std::max(best, scores[i]);
  for (int lane = 0; lane < kLanes; ++lane) best = std::max(best, most[lane]);
  Lanes total{};
  i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    load(scores + i, value);
    value -= best;
    exp_lanes(value);
    total += value;
    store(value, scores + i);
  }
  float sum = sum_of(total);
  if (i < count) {
    load_tail(scores + i, count - i, best, value);
    value -= best;
    exp_lanes(value);
    store_tail(value, count - i, scores + i);
    for (; i < count; ++i) sum += scores[i];
  }
  const float inverse = 1.0f / sum;
  for (i = 0; i < count; ++i) scores[i] *= inverse;
}

}  // namespace mlxs::engine
