#include "engine/ops/cpu/packed_matrix.h"

#include "base/assert.h"
#include "engine/ops/cpu/half.h"
#include "engine/ops/cpu/weight_memory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace mlxs::engine {
namespace {

template <class Narrow>
bool survive(const float* values, std::int64_t count, const Narrow& there_and_back) {
  return std::all_of(values, values + count, [&](float value) {
    const float back = there_and_back(value);
    return std::memcmp(&back, &value, sizeof value) == 0;
  });
}

bool exact_halves(const float* values, std::int64_t count) {
  return survive(values, count, [](float value) { return half_to_float(float_to_half(value)); });
}

bool exact_bfloat16(const float* values, std::int64_t count) {
  return survive(
      values, count, [](float value) { return bfloat16_to_float(float_to_bfloat16(value)); });
}

/// Whether none is too large for half precision, or no number.
bool fit_halves(const float* values, std::int64_t count) {
  constexpr float kHalfMax = 65504;
  return std::all_of(
      values, values + count, [](float value) { return std::abs(value) <= kHalfMax; });
}

PanelForm dense_form(const DenseMatrix& matrix) {
  const std::int64_t count = std::int64_t{matrix.rows} * matrix.columns;
  if (exact_bfloat16(matrix.data, count)) return PanelForm::kBfloat16;
  const bool half =
      matrix.rough ? fit_halves(matrix.data, count) : exact_halves(matrix.data, count);
  return half ? PanelForm::kHalf : PanelForm::kFloat32;
}

void store_number(PanelForm form, float value, std::uint8_t* to) {
  if (form == PanelForm::kFloat32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const std::uint16_t bits =
      form == PanelForm::kHalf ? round_to_half(value) : float_to_bfloat16(value);
  std::memcpy(to, &bits, 2);
}

float load_number(PanelForm form, const std::uint8_t* from) {
  if (form == PanelForm::kFloat32) {
    float value = 0;
    std::memcpy(&value, from, 4);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, 2);
  return form == PanelForm::kHalf ? half_to_float(bits) : bfloat16_to_float(bits);
}

/// Four numbers of four bits as four bytes.
std::uint32_t spread(std::uint32_t nibbles) {
  nibbles = (nibbles | nibbles << 8) & 0x00ff00ffu;
  return (nibbles | nibbles << 4) & 0x0f0f0f0fu;
}

/// A block's whole numbers of any width, which lie behind each other from the low end on.
std::array<std::uint8_t, kPanelColumns> numbers_of(const std::uint32_t* words, int bits) {
  std::array<std::uint8_t, kPanelColumns> numbers{};
  std::uint64_t waiting = 0;
  int held = 0;
  for (std::uint8_t& number : numbers) {
    if (held < bits) {
      waiting |= std::uint64_t{*words++} << held;
      held += 32;
    }
    number = static_cast<std::uint8_t>(waiting & ((1u << bits) - 1));
    waiting >>= bits;
    held -= bits;
  }
  return numbers;
}

/// As many words of `to` bits each as that takes.
std::array<std::uint32_t, kPanelColumns / 4> widened(const std::uint32_t* words, int bits, int to) {
  std::array<std::uint32_t, kPanelColumns / 4> wide{};
  const auto numbers = numbers_of(words, bits);
  for (int i = 0; i < kPanelColumns; ++i) {
    wide[static_cast<std::size_t>(i * to / 32)] |=
        std::uint32_t{numbers[static_cast<std::size_t>(i)]} << i * to % 32;
  }
  return wide;
}

/// A row's part of quad `quad` in a block, whose words are `words`; at 4 bits with quad + 4 above.
std::uint32_t quad_of(const std::uint32_t* words, int bits, int quad) {
  if (bits == 8) return words[quad];
  const int shift = quad % 2 * 16;
  const std::uint32_t low = words[quad / 2] >> shift & 0xffffu;
  const std::uint32_t high = words[quad / 2 + 2] >> shift & 0xffffu;
  return spread(low) | spread(high) << 4;
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
  const int bits = view.bits();
  for (int block = 0; block < view.blocks(); ++block) {
    std::uint8_t* const to = panel + std::int64_t{block} * view.block_bytes();
    const std::int64_t group = row * groups + block * kPanelColumns / matrix.group_size;
    store_scale(view.half_scales, matrix.scales[group], to, lane);
    store_scale(view.half_scales, matrix.biases[group], to, kPanelRows + lane);
    std::uint8_t* const q = to + view.scales_bytes() + lane * 4;
    const std::uint32_t* from = words + block * matrix.bits;
    std::array<std::uint32_t, kPanelColumns / 4> wide;
    if (matrix.bits != bits) {
      wide = widened(from, matrix.bits, bits);
      from = wide.data();
    }
    for (int quad = 0; quad < bits; ++quad) {
      const std::uint32_t bytes = quad_of(from, bits, quad);
      std::memcpy(q + quad * kPanelRows * 4, &bytes, sizeof bytes);
    }
  }
}

}  // namespace

bool PackedMatrix::can_pack(int columns, int bits, int group_size) {
  return ((bits >= 1 && bits <= 6) || bits == 8) && group_size > 0 &&
         group_size % kPanelColumns == 0 && columns % group_size == 0;
}

PackedMatrix::PackedMatrix(const AffineMatrix& matrix) : rows_(matrix.rows) {
  MLXS_ASSERT(can_pack(matrix.columns, matrix.bits, matrix.group_size));
  const std::int64_t scales = std::int64_t{matrix.rows} * (matrix.columns / matrix.group_size);
  view_.columns = matrix.columns;
  view_.form = matrix.bits <= 4 ? PanelForm::kAffine4 : PanelForm::kAffine8;
  view_.half_scales = exact_halves(matrix.scales, scales) && exact_halves(matrix.biases, scales);
  std::uint8_t* const data = allocate();
  for (int row = 0; row < rows_; ++row) {
    pack_row(matrix, view_, row, data + row / kPanelRows * view_.panel_bytes);
  }
}

PackedMatrix::PackedMatrix(const DenseMatrix& matrix) : rows_(matrix.rows) {
  view_.columns = matrix.columns;
  view_.form = dense_form(matrix);
  const int size = view_.bits() / 8;
  std::uint8_t* const data = allocate();
  for (int row = 0; row < rows_; ++row) {
    const float* from = matrix.data + std::int64_t{row} * matrix.columns;
    std::uint8_t* to = data + row / kPanelRows * view_.panel_bytes + row % kPanelRows * size;
    for (int i = 0; i < matrix.columns; ++i, to += kPanelRows * size) {
      store_number(view_.form, from[i], to);
    }
  }
}

PackedMatrix::PackedMatrix(int rows, PanelView view, std::shared_ptr<std::byte> memory)
    : rows_(rows), view_(view), memory_(std::move(memory)) {
  view_.panel_bytes = view_.packed_panel_bytes();
  view_.data = reinterpret_cast<const std::uint8_t*>(memory_.get());
}

std::uint8_t* PackedMatrix::allocate() {
  view_.panel_bytes = view_.packed_panel_bytes();
  memory_ = allocate_weights(bytes());
  auto* const data = reinterpret_cast<std::uint8_t*>(memory_.get());
  std::memset(data, 0, bytes());
  view_.data = data;
  return data;
}

void PackedMatrix::unpack_row(int row, float* out) const {
  const std::uint8_t* panel = view_.data + row / kPanelRows * view_.panel_bytes;
  const int lane = row % kPanelRows;
  if (!view_.affine()) {
    const int size = view_.bits() / 8;
    for (int i = 0; i < view_.columns; ++i) {
      out[i] = load_number(view_.form, panel + (std::int64_t{i} * kPanelRows + lane) * size);
    }
    return;
  }
  const unsigned mask = (1u << view_.bits()) - 1;
  for (int block = 0; block < view_.blocks(); ++block, panel += view_.block_bytes()) {
    const float scale = load_scale(view_.half_scales, panel, lane);
    const float bias = load_scale(view_.half_scales, panel, kPanelRows + lane);
    const std::uint8_t* const q = panel + view_.scales_bytes();
    for (int i = 0; i < kPanelColumns; ++i) {
      const Place at = place(view_.bits(), lane, i);
      out[block * kPanelColumns + i] =
          scale * static_cast<float>(q[at.byte] >> at.shift & mask) + bias;
    }
  }
}

}  // namespace mlxs::engine
