#pragma once

#include "engine/load/tensor.h"

#include <cstddef>
#include <cstdint>

namespace mlxs::engine {

/// All of these put rows into Hugging Face order and share the work among the machine's cores.
/// Copies a tensor as it is stored.
void copy_rows(const TensorView& tensor, std::byte* out);
/// Widens a tensor to float32.
void widen_rows(const TensorView& tensor, float* out);
/// Turns GGUF blocks into MLX's affine form with groups of kGroupElements:
///   packed [rows, columns·bits/32], scales and biases [rows, columns/kGroupElements].
/// Exact where `has_groups`: the same q, scale and offset, only stored differently. The others have
/// a scale for each 16 neighbours, which MLX's smallest group holds two of: their values are spread
/// evenly between a group's least and greatest.
void to_affine(const TensorView& tensor, std::uint32_t* packed, float* scales, float* biases);
/// Bits of `to_affine`'s q. Types whose values don't lie at even distances, or are spread anew, get
/// more than they came with.
[[nodiscard]] int affine_bits(TensorType type);

/// Turns kMXFP4 blocks into MLX's mxfp4, exactly:
///   packed [rows, columns/8], scales [rows, columns/kGroupElements].
void to_mxfp4(const TensorView& tensor, std::uint32_t* packed, std::uint8_t* scales);

}  // namespace mlxs::engine
