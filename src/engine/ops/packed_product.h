#pragma once

#include "engine/ops/cpu/packed_matrix.h"

#include <mlx/array.h>

#include <memory>

namespace mlxs::engine {

/// x · weightᵀ on CPU (`ProductKernels`): with an affine weight over whole numbers, activations
/// becoming 16-bit codes, each token with its own scale; with a dense one in float32. A token's
/// result depends on the token and the weight only.
///   x       [T, columns] float32; rows may lie apart, their elements not
///   result  [T, rows]    float32; lazy
[[nodiscard]] mlx::core::array packed_product(const mlx::core::array& x,
                                              const std::shared_ptr<const PackedMatrix>& weight);

/// Rows of `weight` by number, as numbers.
///   tokens  [T] int32, each in [0, rows)
///   result  [T, columns] float32; lazy
[[nodiscard]] mlx::core::array packed_rows(const mlx::core::array& tokens,
                                           const std::shared_ptr<const PackedMatrix>& weight);

/// x[i] with the rows of matrix `experts[i]`, of which `weight` holds `count` below each other
/// (`multiply_experts`).
///   x        [N, columns] float32
///   experts  [N] int32 or uint32, each in [0, count)
///   result   [N, weight.rows() / count] float32; lazy
[[nodiscard]] mlx::core::array packed_expert_product(
    const mlx::core::array& x,
    const std::shared_ptr<const PackedMatrix>& weight,
    int count,
    const mlx::core::array& experts);

}  // namespace mlxs::engine
