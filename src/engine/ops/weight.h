#pragma once

#include "engine/ops/cpu/packed_matrix.h"

#include <mlx/array.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace mlxs::engine {

/// A matrix [rows, columns] that `linear` and `embedding` take, or one for each expert
/// [experts, rows, columns], dense or in one of MLX's quantised forms. Affine: each group of
/// `group_size` neighbours in a row is scale·q + bias with q of `bits` bits. mxfp4, nvfp4, mxfp8:
/// small floats that share a scale of eight bits. Or packed for the CPU kernels, and nothing else.
struct Weight {
  mlx::core::array data;                        ///< Dense, or [..., rows, columns·bits/32] uint32.
  std::optional<mlx::core::array> scales = {};  ///< [..., rows, columns/group_size]
  std::optional<mlx::core::array> biases = {};  ///< As scales; affine only.
  int group_size = 0;
  int bits = 0;
  std::string mode = "affine";
  std::shared_ptr<const PackedMatrix> packed = {};  ///< Then `data` is empty.
  int experts = 0;     ///< Packed: so many matrices below each other; 0: one.
  bool rough = false;  ///< Dense, but of few bits when it was stored.

  [[nodiscard]] bool quantised() const { return scales.has_value(); }
  [[nodiscard]] std::uint64_t bytes() const {
    return (packed ? packed->bytes() : 0) + data.nbytes() + (scales ? scales->nbytes() : 0) +
           (biases ? biases->nbytes() : 0);
  }
  /// Whether rows of the other could stand below these.
  [[nodiscard]] bool same_form(const Weight& other) const {
    return quantised() == other.quantised() && group_size == other.group_size &&
           bits == other.bits && mode == other.mode && rough == other.rough;
  }
};

}  // namespace mlxs::engine
