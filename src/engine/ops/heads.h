#pragma once

#include "engine/ops/rope.h"

#include <mlx/array.h>

#include <optional>

namespace mlxs::engine {

/// A layer's heads as attention takes them: [T, heads, D] each.
struct Heads {
  mlx::core::array queries, keys, values;
};

/// Norms over each head of queries and of keys, before they turn.
struct HeadNorms {
  mlx::core::array query, key;  ///< [D]
  float eps = 0;
};

/// Splits a fused product into heads, normed where asked, queries and keys turned to their
/// positions.
///   qkv        [T, heads + 2·kv_heads, D]  queries first, then keys, then values
///   positions  [T] int32
///   result     dtype of qkv; lazy
/// On CPU one primitive; elsewhere a rope, and with norms two of each.
[[nodiscard]] Heads split_heads(const mlx::core::array& qkv,
                                int heads,
                                int kv_heads,
                                const std::optional<HeadNorms>& norms,
                                const Rope& turn,
                                const mlx::core::array& positions);

}  // namespace mlxs::engine
