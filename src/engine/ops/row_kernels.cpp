#include "engine/ops/row_kernels.h"

#include "engine/ops/lanes.h"

#include <algorithm>
#include <cmath>

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

MLXS_CLONES void dot_rows(const float* q, const float* rows, int count, int width, float* scores) {
  for (int i = 0; i < count; ++i, rows += width) {
    Lanes sum{};
    for (int d = 0; d < width; d += kLanes) {
      Lanes a;
      Lanes b;
      load(q + d, a);
      load(rows + d, b);
      sum += a * b;
    }
    scores[i] = sum_of(sum);
  }
}

MLXS_CLONES void add_weighted_rows(
    const float* weights, const float* rows, int count, int width, float* out) {
  for (int d = 0; d < width; d += kLanes) {
    Lanes sum;
    load(out + d, sum);
    const float* at = rows + d;
    for (int i = 0; i < count; ++i, at += width) {
      Lanes value;
      load(at, value);
      sum += value * weights[i];
    }
    store(sum, out + d);
  }
}

MLXS_CLONES void softmax_row(float* scores, int count) {
  float best = scores[0];
  for (int i = 1; i < count; ++i) best = std::max(best, scores[i]);
  Lanes total{};
  int i = 0;
  Lanes value;
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
