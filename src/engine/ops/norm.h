#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

/// x / sqrt(mean(x²) + eps) · weight over the last axis, accumulated in float32.
///   x       [..., D]
///   weight  [D]
///   result  shape and dtype of x; lazy
/// Source: arXiv:1910.07467.
[[nodiscard]] mlx::core::array rms_norm(const mlx::core::array& x,
                                        const mlx::core::array& weight,
                                        float eps);

}  // namespace mlxs::engine
