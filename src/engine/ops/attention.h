#pragma once

#include "engine/ops/kv.h"
#include "engine/step.h"

#include <mlx/array.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mlxs::engine {

struct AttentionParams {
  float scale = 1.0f;    ///< Of the scores.
  int window = 0;        ///< Positions a query sees, itself included; 0: all before it.
  float softcap = 0.0f;  ///< Scores become softcap·tanh(score/softcap); 0: off.
};

/// The segments of a step in the form attention reads them, built once a step and shared by all
/// layers. Immutable but for index arrays that are made on first use; engine thread only.
class AttentionPlan {
 public:
  /// The segments obey Step's invariants.
  AttentionPlan(std::span<const Segment> segments, int block_tokens);

  struct Row {
    int q_start = 0;
    int q_len = 0;
    int kv_len = 0;
    std::vector<std::int32_t> blocks;  ///< Exactly those that hold kv_len positions.
  };
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  [[nodiscard]] int block_tokens() const { return block_tokens_; }
  [[nodiscard]] int tokens() const { return tokens_; }

  /// Rows that the MLX-operations path computes together: either all decode rows, padded to the
  /// longest, or one prefill chunk.
  struct Group {
    int rows = 0;                 ///< B
    int queries = 0;              ///< L, of each row
    mlx::core::array q_index;     ///< [B·L] int32, packed indices
    mlx::core::array q_position;  ///< [B, L] int32
    /// [B, N] int32. Padded with the row's own first block, which is then masked: a row never
    /// touches memory of another.
    mlx::core::array table;
    mlx::core::array kv_position;  ///< [B, N·block_tokens] int32; masked ones are INT32_MAX
  };
  [[nodiscard]] const std::vector<Group>& groups() const;
  /// [T] int32: where each packed token's output stands when the groups' are concatenated.
  [[nodiscard]] const mlx::core::array& order() const;

  /// What the backend's kernels read instead, made on first use and kept for the other layers.
  template <class T, class Make>
  [[nodiscard]] std::shared_ptr<const T> for_backend(const Make& make) const {
    if (!for_backend_) for_backend_ = std::make_shared<const T>(make());
    return std::static_pointer_cast<const T>(for_backend_);
  }

 private:
  struct Index;
  const Index& index() const;

  std::vector<Row> rows_;
  int block_tokens_;
  int tokens_ = 0;
  mutable std::shared_ptr<const Index> index_;
  mutable std::shared_ptr<const void> for_backend_;
};

/// Attention over block-stored keys and values, heads shared in groups; a query sees the positions
/// of its own row up to itself, and nothing else.
///   q       [T, Hq, D]  packed; Hq is a multiple of the pool's Hkv
///   result  [T, Hq, D]  dtype of q; scores and sums in float32; lazy
/// On CPU and CUDA a primitive of our own, elsewhere plain MLX operations. The plan is shared
/// because the primitive reads it when it is evaluated. Grouped heads: arXiv:2305.13245. Block
/// tables: arXiv:2309.06180.
[[nodiscard]] mlx::core::array attention(const mlx::core::array& q,
                                         const KvLayer& kv,
                                         const std::shared_ptr<const AttentionPlan>& plan,
                                         const AttentionParams& params);

/// The same in plain MLX operations on any backend: what the others are tested against.
[[nodiscard]] mlx::core::array attention_reference(const mlx::core::array& q,
                                                   const KvLayer& kv,
                                                   const AttentionPlan& plan,
                                                   const AttentionParams& params);

}  // namespace mlxs::engine
