#pragma once

#include "engine/ops/cpu/packed_matrix.h"

#include <cstdint>

namespace mlxs::engine {

/// Tokens side by side in memory.
struct TokenRows {
  const float* data = nullptr;
  int tokens = 0;
  std::int64_t stride = 0;  ///< In elements.
};

/// out[tokens, weight.rows()] = x · weightᵀ, by `product_kernels` and `parallel_for`. One caller at
/// a time; allocates only when it meets more tokens or columns than ever before on its thread.
void multiply(const TokenRows& x, const PackedMatrix& weight, float* out);

}  // namespace mlxs::engine
