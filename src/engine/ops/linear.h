#pragma once

#include "engine/ops/weight.h"

#include <mlx/array.h>

#include <optional>

namespace mlxs::engine {

/// x · weightᵀ (+ bias).
///   x       [T, columns]  the activations' dtype
///   bias    [rows]
///   result  [T, rows]     dtype of x; lazy
/// Dense float32 on CPU goes through `dense_product`.
[[nodiscard]] mlx::core::array linear(const mlx::core::array& x,
                                      const Weight& weight,
                                      const std::optional<mlx::core::array>& bias = std::nullopt);

/// Rows of `weight` by number.
///   tokens  [T] int32, each in [0, rows)
///   result  [T, columns]  the weight's dtype; lazy
[[nodiscard]] mlx::core::array embedding(const mlx::core::array& tokens, const Weight& weight);

}  // namespace mlxs::engine
