#pragma once

#include <cstdint>

namespace mlxs::engine {

/// Float32 kernels over one row, for the CPU forms of the operations. `width` is any number.

/// out = x / sqrt(mean(x²) + eps) · weight
void rms_norm_row(const float* x, const float* weight, int width, float eps, float* out);

/// out = gate / (1 + e^-gate) · up
void silu_gate_row(const float* gate, const float* up, int width, float* out);

/// out = gate · (1 + tanh(√(2/π)·(gate + 0.044715·gate³)))/2 · up
void gelu_tanh_gate_row(const float* gate, const float* up, int width, float* out);

/// Rotates one head: pairs (i, i + half) by cosines[i], sines[i].
void rope_head(const float* x, const float* cosines, const float* sines, int half, float* out);
/// The same over pairs (2·i, 2·i + 1).
void rope_head_of_neighbours(
    const float* x, const float* cosines, const float* sines, int half, float* out);

/// scores[i·stride + k] = queries[i] · rows[k] for `count` rows of `width`, a multiple of 16. A
/// score's bits depend on its query and row only.
void score_rows(const float* const* queries,
                int query_count,
                const float* rows,
                int count,
                int width,
                float* scores,
                std::int64_t stride);

/// outs[i] += sum of weights[i·stride + k] · rows[k], row by row; sizes as above.
void add_weighted_rows(const float* weights,
                       std::int64_t stride,
                       int query_count,
                       const float* rows,
                       int count,
                       int width,
                       float* const* outs);

/// scores becomes cap·tanh(scores/cap).
void softcap_row(float* scores, int count, float cap);

/// scores becomes e^(scores - max) / sum; returns nothing for `count` 0.
void softmax_row(float* scores, int count);

}  // namespace mlxs::engine
