#pragma once

#include "engine/ops/weight.h"

#include <mlx/array.h>

#include <optional>
#include <vector>

namespace mlxs::engine {

/// x · weightᵀ (+ bias).
///   x       [T, columns]  the activations' dtype
///   bias    [rows]
///   result  [T, rows]     dtype of x; lazy
/// On CPU packed weights go through `packed_product`, dense float32 through `dense_product`.
[[nodiscard]] mlx::core::array linear(const mlx::core::array& x,
                                      const Weight& weight,
                                      const std::optional<mlx::core::array>& bias = std::nullopt);

/// The same with several weights, whose rows stand below each other in the result: what one product
/// would be, were the forms alike.
[[nodiscard]] mlx::core::array linear(const mlx::core::array& x,
                                      const std::vector<Weight>& weights,
                                      const std::optional<mlx::core::array>& bias = std::nullopt);

/// Rows of `weight` by number.
///   tokens  [T] int32, each in [0, rows)
///   result  [T, columns]  `dtype`; lazy
[[nodiscard]] mlx::core::array embedding(const mlx::core::array& tokens,
                                         const Weight& weight,
                                         mlx::core::Dtype dtype);

/// As `linear`, each row of x with the matrix of its own expert.
///   x        [N, columns]
///   weights  [experts, rows, columns] each
///   experts  [N] int32 or uint32; `sorted`: ascending, which lets a matrix be read once for all
///            its rows
///   result   [N, rows]     dtype of x; lazy
[[nodiscard]] mlx::core::array expert_linear(const mlx::core::array& x,
                                             const std::vector<Weight>& weights,
                                             const mlx::core::array& experts,
                                             bool sorted);

}  // namespace mlxs::engine
