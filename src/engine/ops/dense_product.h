#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

/// Whether `dense_product` takes these: float32 on CPU in a build with OpenBLAS.
[[nodiscard]] bool can_dense_product(const mlx::core::array& x, const mlx::core::array& weight);

/// x · weightᵀ on CPU, cut along the weight's rows into pieces for our own threads.
///   x       [T, K] float32; rows may lie apart, their elements not
///   weight  [N, K] float32, row-contiguous
///   result  [T, N] float32; lazy
/// A single row goes through BLAS's matrix-vector product: its matrix product repacks the whole
/// weight first, which at one row costs more than the product (measured 24 against 15 GB/s).
[[nodiscard]] mlx::core::array dense_product(const mlx::core::array& x,
                                             const mlx::core::array& weight);

/// Whether `expert_dense_product` takes these: as above.
[[nodiscard]] bool can_expert_product(const mlx::core::array& x, const mlx::core::array& weight);

/// x[i] · weight[experts[i]]ᵀ on CPU: one product for neighbouring rows of one expert.
///   x        [N, K] float32, row-contiguous elements
///   weight   [E, R, K] float32, row-contiguous
///   experts  [N] int32 or uint32, each in [0, E); best sorted
///   result   [N, R] float32; lazy
[[nodiscard]] mlx::core::array expert_dense_product(const mlx::core::array& x,
                                                    const mlx::core::array& weight,
                                                    const mlx::core::array& experts);

}  // namespace mlxs::engine
