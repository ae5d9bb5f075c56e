#pragma once

#include <mlx/array.h>

#include <cstdint>
#include <optional>

namespace mlxs::engine {

/// A matrix [rows, columns] that `linear` and `embedding` take, dense or in MLX's affine groups:
/// each group of `group_size` neighbours in a row is scale·q + bias with q of `bits` bits.
struct Weight {
  mlx::core::array data;  ///< [rows, columns]; affine: [rows, columns·bits/32] uint32
  std::optional<mlx::core::array> scales = {};  ///< [rows, columns/group_size]
  std::optional<mlx::core::array> biases = {};  ///< As scales.
  int group_size = 0;
  int bits = 0;

  [[nodiscard]] bool quantised() const { return scales.has_value(); }
  [[nodiscard]] std::uint64_t bytes() const {
    return data.nbytes() + (quantised() ? scales->nbytes() + biases->nbytes() : 0);
  }
};

}  // namespace mlxs::engine
