#pragma once

#include "engine/ops/product.h"

#include <cstdint>

namespace mlxs::engine {

/// Row i of out[x.tokens, rows] = x[i] · Wᵀ with the W of expert `experts[i]`, of which `weight`
/// holds `weight.rows() / rows` below each other; `rows` is a multiple of kPanelRows. Rows of one
/// expert, wherever they are, meet its weights together, and each gets the bits that `multiply`
/// gives it alone. By `parallel_for`; one caller at a time; allocates only when it meets more than
/// ever before on its thread.
void multiply_experts(const TokenRows& x,
                      const PackedMatrix& weight,
                      int rows,
                      const std::int32_t* experts,
                      float* out);

}  // namespace mlxs::engine
