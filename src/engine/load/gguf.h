#pragma once

#include "base/result.h"
#include "engine/load/mapped_file.h"
#include "engine/load/tensor.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace mlxs::engine {

/// Metadata value types of GGUF, with the file's own numbers.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// An array in the metadata, checked to lie inside the file but not decoded: vocabularies have
/// hundreds of thousands of entries and most readers want none of them.
struct GgufArray {
  GgufType type = GgufType::kUint8;  ///< Of the elements.
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

/// Integers of all widths widen to 64 bits, floats to double.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

/// The header of a GGUF file, versions 2 and 3, little-endian. Everything is bounds-checked: counts
/// and lengths are compared with what is left of the file before anything is allocated for them.
/// Immutable; any thread. Views point into the bytes that were parsed.
/// Format: github.com/ggml-org/ggml, docs/gguf.md.
class Gguf {
 public:
  /// kCorruptFile says what is wrong at which offset; kInvalidRequest names a tensor whose type is
  /// not supported, or a version. `bytes` outlives the result; `file` is for messages.
  [[nodiscard]] static Result<Gguf> parse(std::span<const std::byte> bytes, std::string file);

  [[nodiscard]] const GgufValue* find(std::string_view key) const;
  /// Absent or of another type: nothing. An integer fits a double and a non-negative one an
  /// unsigned one.
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view key) const;
  [[nodiscard]] std::optional<double> number(std::string_view key) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) const;
  [[nodiscard]] std::optional<std::string_view> string(std::string_view key) const;
  /// Arrays decoded in full; nothing when absent or of another element type.
  [[nodiscard]] std::optional<std::vector<std::string>> strings(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<std::int32_t>> integers(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<float>> floats(std::string_view key) const;

  [[nodiscard]] std::span<const TensorView> tensors() const { return tensors_; }
  /// The bytes before the tensor data: all that describes the model.
  [[nodiscard]] std::span<const std::byte> header() const { return header_; }

 private:
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<TensorView> tensors_;
  std::span<const std::byte> header_;
};

}  // namespace mlxs::engine
