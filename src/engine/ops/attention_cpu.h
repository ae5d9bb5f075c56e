#pragma once

#include "engine/ops/attention.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace mlxs::engine {

/// Queries [index, index + count) of a row, of the heads that share `kv_head`.
struct AttentionPiece {
  const AttentionPlan::Row* row;
  int index, count;
  int kv_head;
};

/// A step's queries in pieces that threads take one by one. Points into the plan it is made of.
class AttentionPieces {
 public:
  AttentionPieces(const AttentionPlan& plan, int heads, int kv_heads);

  [[nodiscard]] const std::vector<AttentionPiece>& pieces() const { return pieces_; }
  /// How many scores there are in all.
  [[nodiscard]] std::int64_t scores() const { return scores_; }

 private:
  std::vector<AttentionPiece> pieces_;
  std::int64_t scores_ = 0;
};

/// Made once for a plan. Engine thread only; keep the plan as long.
[[nodiscard]] std::shared_ptr<const AttentionPieces> attention_pieces(
    const std::shared_ptr<const AttentionPlan>& plan, int heads, int kv_heads);

/// Everything attention's kernels read and write. A pool in float32 is laid out as `KvLayer` says,
/// one in half precision holds each block's keys turned, [head_dim, block_tokens].
struct AttentionJob {
  const float* q;
  const void* keys;
  const void* values;
  bool halves;  ///< The pool is in half precision, and blocks have kKeyBlock tokens.
  float* out;   ///< [T, heads, head_dim]
  std::int64_t q_token_stride, q_head_stride;  ///< In elements.
  int heads, kv_heads, head_dim, block_tokens;
  AttentionParams params;

  [[nodiscard]] const float* query(int token, int head) const {
    return q + token * q_token_stride + head * q_head_stride;
  }
  [[nodiscard]] float* result(int token, int head) const {
    return out + (std::int64_t{token} * heads + head) * head_dim;
  }
  /// A key head's matrix within a block.
  template <class T>
  [[nodiscard]] const T* matrix(const void* pool, std::int32_t block, int kv_head) const {
    return static_cast<const T*>(pool) +
           (std::int64_t{block} * kv_heads + kv_head) * block_tokens * head_dim;
  }
  /// First position that a query at `position` sees.
  [[nodiscard]] int first_seen(int position) const {
    return params.window == 0 ? 0 : std::max(0, position - params.window + 1);
  }
};

/// Attention of all pieces, by `parallel_for`. A query's bits depend on its own row only, not on
/// the chunk or batch it comes in. Heads of a multiple of 16.
void attend(const AttentionJob& job, const AttentionPieces& pieces);

/// Whether `attention_cpu` takes these: float32, on CPU, heads of a multiple of 16.
[[nodiscard]] bool can_attention_cpu(const mlx::core::array& q, const KvLayer& kv);

/// `attend` as one primitive that reads keys and values where they lie in the pool.
[[nodiscard]] mlx::core::array attention_cpu(const mlx::core::array& q,
                                             const KvLayer& kv,
                                             const std::shared_ptr<const AttentionPlan>& plan,
                                             const AttentionParams& params);

}  // namespace mlxs::engine
