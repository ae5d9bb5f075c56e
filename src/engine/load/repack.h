#pragma once

#include "engine/load/tensor.h"

#include <cstddef>
#include <cstdint>

namespace mlxs::engine {

/// All three put rows into Hugging Face order and share the work among the machine's cores.
/// Copies a tensor as it is stored.
void copy_rows(const TensorView& tensor, std::byte* out);
/// Widens a tensor to float32.
void widen_rows(const TensorView& tensor, float* out);
/// Turns GGUF blocks into MLX's affine form with groups of kQuantBlock:
///   packed [rows, columns·bits/32], scales and biases [rows, columns/kQuantBlock].
/// Exact: the same q, scale and offset, only stored differently.
void to_affine(const TensorView& tensor, std::uint32_t* packed, float* scales, float* biases);
/// Bits of `to_affine`'s q: 4 or 8.
[[nodiscard]] int affine_bits(TensorType type);

}  // namespace mlxs::engine
