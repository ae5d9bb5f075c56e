#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

/// Whether `vector_product` takes these: one float32 row, on CPU, in a build with OpenBLAS.
[[nodiscard]] bool can_vector_product(const mlx::core::array& x, const mlx::core::array& weight);

/// x · weightᵀ for a single row, by BLAS's matrix-vector product.
///   x       [1, K] float32
///   weight  [N, K] float32, row-contiguous
///   result  [1, N] float32; lazy
[[nodiscard]] mlx::core::array vector_product(const mlx::core::array& x,
                                              const mlx::core::array& weight);

}  // namespace mlxs::engine
