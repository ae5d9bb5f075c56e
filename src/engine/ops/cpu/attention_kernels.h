#pragma once

#include <cstdint>

namespace mlxs::engine {

inline constexpr int kKeyBlock = 32;  ///< Keys that lie together.

/// Attention over keys and values in half precision, for one instruction set; sums are float32. All
/// sets give the same bits: every element of a result is one chain of fused products, in the order
/// of columns for scores and of rows for values. `width` is a multiple of 16.
struct AttentionKernels {
  /// Rounds to the nearest half, ties to even, and beyond the largest ones to these. What is not a
  /// number stays none.
  void (*to_half)(const float* x, int count, std::uint16_t* out);
  /// scores[i·stride + k] = queries[i] · key k, for all kKeyBlock keys of a block that is stored
  /// turned, [width][kKeyBlock].
  void (*score)(const float* const* queries,
                int query_count,
                const std::uint16_t* keys,
                int width,
                float* scores,
                std::int64_t stride);
  /// outs[i] += sum of weights[i·stride + k] · values[k] for k in [0, count); values
  /// [count][width].
  void (*add_weighted)(const float* weights,
                       std::int64_t stride,
                       int query_count,
                       const std::uint16_t* values,
                       int count,
                       int width,
                       float* const* outs);
};

extern const AttentionKernels kPlainAttention;
extern const AttentionKernels kAvx2Attention;
extern const AttentionKernels kAvx512Attention;

}  // namespace mlxs::engine
