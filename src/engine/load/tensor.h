#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// How a tensor's elements are stored in a file. Those from kQ4_0 on are GGUF's blocks of 32 or 256
/// elements (`blocks.h`); kU32 and kU8 hold what MLX packed.
enum class TensorType {
  kF32,
  kF16,
  kBF16,
  kU32,
  kU8,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
};

/// `type` as files spell it ("F32", "Q4_1", ...).
[[nodiscard]] std::string_view tensor_type_name(TensorType type);
[[nodiscard]] bool is_block_quantised(TensorType type);
/// Whether elements mean something by themselves. Packed words (kU32) and the scales of small
/// floats (kU8) don't.
[[nodiscard]] bool has_values(TensorType type);
/// Elements in a block; 1 for types without.
[[nodiscard]] int block_elements(TensorType type);
/// Bytes of a row of `columns` elements, a multiple of `block_elements`.
[[nodiscard]] std::int64_t row_bytes(TensorType type, std::int64_t columns);

/// A tensor inside a mapped file. Borrowed: the file outlives it.
struct TensorView {
  std::string name;  ///< As in the file.
  TensorType type = TensorType::kF32;
  std::vector<std::int64_t> shape;   ///< Outermost axis first.
  std::span<const std::byte> bytes;  ///< Exactly the tensor; no alignment is promised.
  std::string file;                  ///< For messages.
  /// GGUF stores llama's query and key rows of each head interleaved for its kind of rope. Where
  /// not 0: the number of heads whose rows have to be put back into Hugging Face order.
  int interleaved_heads = 0;
  /// A norm's weight that is stored with 1 added, as GGUF has gemma's.
  bool one_added = false;

  [[nodiscard]] std::int64_t elements() const;
  /// Rows of the innermost axis; a scalar has one.
  [[nodiscard]] std::int64_t rows() const;
  [[nodiscard]] std::int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  /// Index in the file of row `row` in Hugging Face order.
  [[nodiscard]] std::int64_t source_row(std::int64_t row) const;
  /// The bytes of row `row` in Hugging Face order.
  [[nodiscard]] std::span<const std::byte> row(std::int64_t row) const;
};

/// "[2, 3]", for messages.
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);

/// Widens `count` stored elements (a multiple of `block_elements`) to float32; exact for
/// the float types, else the arithmetic of the block in float32. Only where `has_values`.
void widen(TensorType type, std::span<const std::byte> bytes, std::int64_t count, float* out);

}  // namespace mlxs::engine
