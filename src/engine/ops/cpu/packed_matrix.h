#pragma once

#include "engine/ops/cpu/kernels.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace mlxs::engine {

/// A matrix [rows, columns] in MLX's affine groups: scale·q + bias, q of `bits` bits from the low
/// end of each word on.
struct AffineMatrix {
  int rows = 0;
  int columns = 0;
  int bits = 0;
  int group_size = 0;
  const std::uint32_t* data = nullptr;  ///< [rows, columns·bits/32]
  const float* scales = nullptr;        ///< [rows, columns/group_size]
  const float* biases = nullptr;        ///< As scales.
};

/// A matrix [rows, columns] of numbers.
struct DenseMatrix {
  int rows = 0;
  int columns = 0;
  const float* data = nullptr;
  bool rough = false;  ///< They came from fewer bits than half precision has, and may be rounded.
};

/// The same numbers in the order in which the CPU kernels read them (`PanelView`). Immutable; any
/// thread.
class PackedMatrix {
 public:
  /// Whether there are kernels for such a matrix.
  [[nodiscard]] static bool can_pack(int columns, int bits, int group_size);

  /// `matrix` satisfies `can_pack`. Whole numbers of up to four bits are stored in four, others in
  /// eight; scales in half precision where that is exact.
  explicit PackedMatrix(const AffineMatrix& matrix);
  /// Numbers are stored in bfloat16 or half precision where that is exact, rough ones that half
  /// precision can hold in half precision.
  explicit PackedMatrix(const DenseMatrix& matrix);
  /// What was packed before: form, columns and scales as `view` says, panels behind each other in
  /// `memory`, which is aligned to 64.
  PackedMatrix(int rows, PanelView view, std::shared_ptr<std::byte> memory);

  /// The same matrix, met by activations of eight bits; shares its memory.
  [[nodiscard]] PackedMatrix with_eight_bits() const {
    PackedMatrix other = *this;
    other.view_.eight_bits = true;
    return other;
  }

  [[nodiscard]] int rows() const { return rows_; }
  [[nodiscard]] int columns() const { return view_.columns; }
  [[nodiscard]] int panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  [[nodiscard]] const PanelView& view() const { return view_; }
  [[nodiscard]] std::uint64_t bytes() const {
    return static_cast<std::uint64_t>(panels()) * static_cast<std::uint64_t>(view_.panel_bytes);
  }

  /// Writes row `row` as numbers to out[columns].
  void unpack_row(int row, float* out) const;

 private:
  std::uint8_t* allocate();

  int rows_;
  PanelView view_;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace mlxs::engine
