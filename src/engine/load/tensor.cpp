#include "engine/load/tensor.h"

#include "base/assert.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace mlxs::engine {
namespace {

struct TypeRow {
  TensorType type;
  std::string_view name;
  int elements;  ///< In a block.
  int bytes;     ///< Of a block.
};
constexpr TypeRow kTypes[] = {
    {TensorType::kF32, "F32", 1, 4},
    {TensorType::kF16, "F16", 1, 2},
    {TensorType::kBF16, "BF16", 1, 2},
    {TensorType::kU32, "U32", 1, 4},
    {TensorType::kU8, "U8", 1, 1},
    {TensorType::kQ4_0, "Q4_0", kQuantBlock, 2 + 16},
    {TensorType::kQ4_1, "Q4_1", kQuantBlock, 4 + 16},
    {TensorType::kQ8_0, "Q8_0", kQuantBlock, 2 + 32},
};

const TypeRow& type_row(TensorType type) { return kTypes[static_cast<std::size_t>(type)]; }

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

void widen_q4(const std::byte* block, float scale, float offset, float* out) {
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    const auto pair = static_cast<std::uint8_t>(block[i]);
    out[i] = static_cast<float>(pair & 0x0f) * scale + offset;
    out[i + kQuantBlock / 2] = static_cast<float>(pair >> 4) * scale + offset;
  }
}

void widen_block(TensorType type, const std::byte* block, float* out) {
  float offset = 0;
  const float scale = block_scale(type, block, offset);
  switch (type) {
    case TensorType::kQ4_0:
      widen_q4(block + 2, scale, offset, out);
      break;
    case TensorType::kQ4_1:
      widen_q4(block + 4, scale, offset, out);
      break;
    case TensorType::kQ8_0:
      for (int i = 0; i < kQuantBlock; ++i) {
        out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * scale;
      }
      break;
    default:
      MLXS_ASSERT(false && "a block type");
  }
}

}  // namespace

std::string_view tensor_type_name(TensorType type) { return type_row(type).name; }

bool is_block_quantised(TensorType type) { return type_row(type).elements > 1; }

bool has_values(TensorType type) { return type != TensorType::kU32 && type != TensorType::kU8; }

std::int64_t row_bytes(TensorType type, std::int64_t columns) {
  const TypeRow& row = type_row(type);
  return columns / row.elements * row.bytes;
}

std::int64_t TensorView::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t axis : shape) count *= axis;
  return count;
}

std::int64_t TensorView::rows() const { return columns() == 0 ? 0 : elements() / columns(); }

std::int64_t TensorView::source_row(std::int64_t row) const {
  if (interleaved_heads == 0) return row;
  // Hugging Face row (head, half, i) is the file's row (head, i, half).
  const std::int64_t total = shape.front();
  const std::int64_t head_rows = total / interleaved_heads;
  const std::int64_t half_rows = head_rows / 2;
  const std::int64_t head = row / head_rows;
  const std::int64_t half = row % head_rows / half_rows;
  return head * head_rows + row % half_rows * 2 + half;
}

std::span<const std::byte> TensorView::row(std::int64_t index) const {
  const auto size = static_cast<std::size_t>(row_bytes(type, columns()));
  return bytes.subspan(static_cast<std::size_t>(source_row(index)) * size, size);
}

float block_scale(TensorType type, const std::byte* block, float& offset) {
  const float scale = half_to_float(load<std::uint16_t>(block));
  if (type == TensorType::kQ4_1) {
    offset = half_to_float(load<std::uint16_t>(block + 2));
  } else {
    offset = (type == TensorType::kQ8_0 ? -128.0f : -8.0f) * scale;
  }
  return scale;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void widen(TensorType type, std::span<const std::byte> bytes, std::int64_t count, float* out) {
  MLXS_ASSERT(std::ssize(bytes) == row_bytes(type, count));
  const std::byte* in = bytes.data();
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out, in, bytes.size());
      return;
    case TensorType::kF16:
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = half_to_float(load<std::uint16_t>(in + 2 * i));
      }
      return;
    case TensorType::kBF16:
      for (std::int64_t i = 0; i < count; ++i) {
        out[i] = std::bit_cast<float>(std::uint32_t{load<std::uint16_t>(in + 2 * i)} << 16);
      }
      return;
    case TensorType::kU32:
    case TensorType::kU8:
      MLXS_ASSERT(false && "packed words have no value of their own");
      return;
    default: {
      const std::int64_t block_bytes = row_bytes(type, kQuantBlock);
      for (std::int64_t i = 0; i < count / kQuantBlock; ++i) {
        widen_block(type, in + i * block_bytes, out + i * kQuantBlock);
      }
    }
  }
}

}  // namespace mlxs::engine
