#include "engine/ops/cpu/packed_matrix.h"

#include "base/assert.h"
#include "engine/ops/cpu/half.h"
#include "engine/ops/cpu/weight_memory.h"

#include <algorithm>
#include <cstring>

namespace mlxs::engine {
namespace {

bool exact_halves(const float* values, std::int64_t count) {
  return std::all_of(values, values + count, [](float value) {
    const float back = half_to_float(float_to_half(value));
    return std::memcmp(&back, &value, sizeof value) == 0;
  });
}

/// q of column `column` in a row of words.
unsigned code_at(const std::uint32_t* row, int column, int bits) {
  const int per_word = 32 / bits;
  return row[column / per_word] >> (column % per_word * bits) & ((1u << bits) - 1);
}

void store_scale(bool half, float value, std::uint8_t* to, int index) {
  if (!half) {
    std::memcpy(to + index * 4, &value, 4);
    return;
  }
  const std::uint16_t bits = float_to_half(value);
  std::memcpy(to + index * 2, &bits, 2);
}

float load_scale(bool half, const std::uint8_t* from, int index) {
  if (half) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + index * 2, 2);
    return half_to_float(bits);
  }
  float value = 0;
  std::memcpy(&value, from + index * 4, 4);
  return value;
}

/// Where q of (row, column) of a block lies, and in which half of the byte at 4 bits.
struct Place {
  int byte;
  int shift;
};
Place place(int bits, int row, int column) {
  const int quad = column / 4;
  const int within = row * 4 + column % 4;
  constexpr int kQuadBytes = kPanelRows * 4;
  if (bits == 8) return {quad * kQuadBytes + within, 0};
  return {quad % 4 * kQuadBytes + within, quad / 4 * 4};
}

void pack_row(const AffineMatrix& matrix, const PanelView& view, int row, std::uint8_t* panel) {
  const std::int64_t groups = matrix.columns / matrix.group_size;
  const std::uint32_t* words =
      matrix.data + std::int64_t{row} * (matrix.columns * matrix.bits / 32);
  const int lane = row % kPanelRows;
  for (int block = 0; block < view.blocks(); ++block) {
    std::uint8_t* const to = panel + std::int64_t{block} * view.block_bytes();
    const std::int64_t group = row * groups + block * kPanelColumns / matrix.group_size;
    store_scale(view.half_scales, matrix.scales[group], to, lane);
    store_scale(view.half_scales, matrix.biases[group], to, kPanelRows + lane);
    std::uint8_t* const q = to + view.scales_bytes();
    for (int i = 0; i < kPanelColumns; ++i) {
      const Place at = place(matrix.bits, lane, i);
      q[at.byte] = static_cast<std::uint8_t>(
          q[at.byte] | code_at(words, block * kPanelColumns + i, matrix.bits) << at.shift);
    }
  }
}

}  // namespace

bool PackedMatrix::can_pack(int columns, int bits, int group_size) {
  return (bits == 4 || bits == 8) && group_size > 0 && group_size % kPanelColumns == 0 &&
         columns % group_size == 0;
}

PackedMatrix::PackedMatrix(const AffineMatrix& matrix) : rows_(matrix.rows) {
  MLXS_ASSERT(can_pack(matrix.columns, matrix.bits, matrix.group_size));
  const std::int64_t scales = std::int64_t{matrix.rows} * (matrix.columns / matrix.group_size);
  view_.columns = matrix.columns;
  view_.bits = matrix.bits;
  view_.half_scales = exact_halves(matrix.scales, scales) && exact_halves(matrix.biases, scales);
  view_.panel_bytes = std::int64_t{view_.blocks()} * view_.block_bytes();
  memory_ = allocate_weights(bytes());
  auto* const data = reinterpret_cast<std::uint8_t*>(memory_.get());
  std::memset(data, 0, bytes());
  for (int row = 0; row < rows_; ++row) {
    pack_row(matrix, view_, row, data + row / kPanelRows * view_.panel_bytes);
  }
  view_.data = data;
}

void PackedMatrix::unpack_row(int row, float* out) const {
  const std::uint8_t* panel = view_.data + row / kPanelRows * view_.panel_bytes;
  const int lane = row % kPanelRows;
  const unsigned mask = (1u << view_.bits) - 1;
  for (int block = 0; block < view_.blocks(); ++block, panel += view_.block_bytes()) {
    const float scale = load_scale(view_.half_scales, panel, lane);
    const float bias = load_scale(view_.half_scales, panel, kPanelRows + lane);
    const std::uint8_t* const q = panel + view_.scales_bytes();
    for (int i = 0; i < kPanelColumns; ++i) {
      const Place at = place(view_.bits, lane, i);
      out[block * kPanelColumns + i] =
          scale * static_cast<float>(q[at.byte] >> at.shift & mask) + bias;
    }
  }
}

}  // namespace mlxs::engine
