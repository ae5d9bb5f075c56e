#pragma once

#include "engine/ops/attention.h"

#include <array>
#include <memory>

namespace mlxs::engine::cuda {

/// Whether a kernel takes them: bfloat16 or float16 heads of 64, 128 or 256, at most 16 query heads
/// sharing a key head.
[[nodiscard]] bool can_attention(const mlx::core::array& q, const KvLayer& kv);

[[nodiscard]] bool can_attention(mlx::core::Dtype dtype, int heads, int kv_heads, int width);

/// A step's rows cut into pieces of work, as arrays of the kernel's structs.
struct AttentionPieces {
  mlx::core::array pieces;
  mlx::core::array table;
  mlx::core::array merges;
  int count = 0;
  int merge_count = 0;
  int partials = 0;
};
/// Made once a step and kept by the plan.
[[nodiscard]] std::shared_ptr<const AttentionPieces> attention_pieces(
    const std::shared_ptr<const AttentionPlan>& plan, int heads, int kv_heads);

/// Adds the kernels to `stream` while one of its operations is evaluated. `indices` are the arrays
/// of `pieces`, evaluated; `out` [T, Hq, D] has memory.
void record_attention(const mlx::core::Stream& stream,
                      const mlx::core::array& q,
                      const KvLayer& kv,
                      const AttentionPieces& pieces,
                      const std::array<mlx::core::array, 3>& indices,
                      const AttentionParams& params,
                      mlx::core::array& out);

/// ops/attention.h's attention on the GPU: long rows are split over thread blocks, so that few rows
/// fill the device too. Scores, sums and weights are float32.
[[nodiscard]] mlx::core::array attention(const mlx::core::array& q,
                                         const KvLayer& kv,
                                         const std::shared_ptr<const AttentionPlan>& plan,
                                         const AttentionParams& params);

}  // namespace mlxs::engine::cuda
