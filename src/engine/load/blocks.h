#pragma once

#include "engine/load/tensor.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace mlxs::engine {

/// Groups of this many neighbours become one of MLX's affine groups.
inline constexpr int kGroupElements = 32;

/// 32 neighbours of a GGUF block: scale·(q - zero) + offset.
struct BlockGroup {
  float scale = 0;
  int zero = 0;
  float offset = 0;
  std::array<std::uint8_t, kGroupElements> q{};
};

/// Whether `read_group` takes blocks of this type: all but those that scale 16 neighbours at a time
/// (Q2_K, Q3_K, Q6_K).
[[nodiscard]] bool has_groups(TensorType type);
/// The `index`-th group of a block, exactly.
[[nodiscard]] BlockGroup read_group(TensorType type, const std::byte* block, int index);

/// Widens a block to `block_elements(type)` floats, with the arithmetic ggml's own code has.
/// Format: github.com/ggml-org/ggml, src/ggml-common.h and src/ggml-quants.c.
void widen_block(TensorType type, const std::byte* block, float* out);

/// IEEE half precision to single, exactly.
[[nodiscard]] float half_to_float(std::uint16_t half);

}  // namespace mlxs::engine
