#include "engine/load/tensor.h"

#include "base/assert.h"
#include "engine/load/blocks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
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
    {TensorType::kQ4_0, "Q4_0", 32, 18},
    {TensorType::kQ4_1, "Q4_1", 32, 20},
    {TensorType::kQ5_0, "Q5_0", 32, 22},
    {TensorType::kQ5_1, "Q5_1", 32, 24},
    {TensorType::kQ8_0, "Q8_0", 32, 34},
    {TensorType::kQ2_K, "Q2_K", 256, 84},
    {TensorType::kQ3_K, "Q3_K", 256, 110},
    {TensorType::kQ4_K, "Q4_K", 256, 144},
    {TensorType::kQ5_K, "Q5_K", 256, 176},
    {TensorType::kQ6_K, "Q6_K", 256, 210},
    {TensorType::kIQ4_NL, "IQ4_NL", 32, 18},
    {TensorType::kIQ4_XS, "IQ4_XS", 256, 136},
    {TensorType::kMXFP4, "MXFP4", 32, 17},
};

const TypeRow& type_row(TensorType type) { return kTypes[static_cast<std::size_t>(type)]; }

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace

std::string_view tensor_type_name(TensorType type) { return type_row(type).name; }

bool is_block_quantised(TensorType type) { return type_row(type).elements > 1; }

bool has_values(TensorType type) { return type != TensorType::kU32 && type != TensorType::kU8; }

int block_elements(TensorType type) { return type_row(type).elements; }

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
      const int elements = block_elements(type);
      const std::int64_t block_bytes = row_bytes(type, elements);
      for (std::int64_t i = 0; i < count / elements; ++i) {
        widen_block(type, in + i * block_bytes, out + i * elements);
      }
    }
  }
}

}  // namespace mlxs::engine
