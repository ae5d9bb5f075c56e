#include "engine/load/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <set>
#include <utility>

namespace mlxs::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr std::uint32_t kDefaultAlignment = 32;
constexpr std::uint32_t kAlignmentMax = 1u << 20;
constexpr std::uint32_t kAxesMax = 4;

/// Reads forward through bytes; after the first failure it stays failed and hands out zeros.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  template <class T>
  T number() {
    T value{};
    const auto raw = take(sizeof(T), "a number");
    if (raw.size() == sizeof(T)) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }

  std::string_view string() {
    const auto length = number<std::uint64_t>();
    const auto raw = take(length, "a string");
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  std::span<const std::byte> take(std::uint64_t size, std::string_view what) {
    if (error_) return {};
    if (size > left()) {
      corrupt(fmt::format("{} of {} bytes where {} are left", what, size, left()));
      return {};
    }
    const auto taken = bytes_.subspan(at_, static_cast<std::size_t>(size));
    at_ += static_cast<std::size_t>(size);
    return taken;
  }

  void corrupt(std::string_view reason) {
    if (error_) return;
    error_ =
        fail(ErrorCode::kCorruptFile, fmt::format("[gguf] {}: at byte {}: {}", file_, at_, reason));
  }
  void unsupported(std::string_view reason) {
    if (error_) return;
    error_ = fail(ErrorCode::kInvalidRequest, fmt::format("[gguf] {}: {}", file_, reason));
  }

  [[nodiscard]] bool failed() const { return error_.has_value(); }
  [[nodiscard]] Error error() const { return *error_; }
  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] std::uint64_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] std::span<const std::byte> since(std::size_t start) const {
    return bytes_.subspan(start, at_ - start);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
  std::optional<Error> error_;
};

/// Bytes of a fixed-size value; 0 for strings, arrays and unknown types.
std::size_t fixed_size(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    default:
      return 0;
  }
}

GgufArray read_array(Cursor& cursor) {
  GgufArray array;
  const auto type = cursor.number<std::uint32_t>();
  array.type = static_cast<GgufType>(type);
  array.count = cursor.number<std::uint64_t>();
  const std::size_t start = cursor.at();
  if (const std::size_t size = fixed_size(array.type); size != 0) {
    if (array.count > cursor.left() / size) {
      cursor.corrupt(fmt::format("an array of {} values does not fit", array.count));
      return array;
    }
    cursor.take(array.count * size, "an array");
  } else if (array.type == GgufType::kString) {
    // Each string takes at least its length's eight bytes, so the loop ends with the file.
    for (std::uint64_t i = 0; i < array.count && !cursor.failed(); ++i) cursor.string();
  } else {
    cursor.corrupt(fmt::format("an array of value type {}", type));
  }
  if (!cursor.failed()) array.bytes = cursor.since(start);
  return array;
}

GgufValue read_value(Cursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return std::uint64_t{cursor.number<std::uint8_t>()};
    case GgufType::kInt8:
      return std::int64_t{cursor.number<std::int8_t>()};
    case GgufType::kUint16:
      return std::uint64_t{cursor.number<std::uint16_t>()};
    case GgufType::kInt16:
      return std::int64_t{cursor.number<std::int16_t>()};
    case GgufType::kUint32:
      return std::uint64_t{cursor.number<std::uint32_t>()};
    case GgufType::kInt32:
      return std::int64_t{cursor.number<std::int32_t>()};
    case GgufType::kFloat32:
      return double{cursor.number<float>()};
    case GgufType::kBool:
      return cursor.number<std::uint8_t>() != 0;
    case GgufType::kString:
      return cursor.string();
    case GgufType::kArray:
      return read_array(cursor);
    case GgufType::kUint64:
      return cursor.number<std::uint64_t>();
    case GgufType::kInt64:
      return cursor.number<std::int64_t>();
    case GgufType::kFloat64:
      return cursor.number<double>();
  }
  cursor.corrupt(fmt::format("value type {}", static_cast<std::uint32_t>(type)));
  return std::uint64_t{0};
}

/// GGUF's numbers for tensor types that we read.
constexpr std::pair<std::uint32_t, TensorType> kTensorTypes[] = {
    {0, TensorType::kF32},
    {1, TensorType::kF16},
    {2, TensorType::kQ4_0},
    {3, TensorType::kQ4_1},
    {6, TensorType::kQ5_0},
    {7, TensorType::kQ5_1},
    {8, TensorType::kQ8_0},
    {10, TensorType::kQ2_K},
    {11, TensorType::kQ3_K},
    {12, TensorType::kQ4_K},
    {13, TensorType::kQ5_K},
    {14, TensorType::kQ6_K},
    {20, TensorType::kIQ4_NL},
    {23, TensorType::kIQ4_XS},
    {30, TensorType::kBF16},
    {39, TensorType::kMXFP4},
};

std::optional<TensorType> tensor_type(std::uint32_t number) {
  for (const auto& [known, type] : kTensorTypes) {
    if (known == number) return type;
  }
  return std::nullopt;
}

std::string supported_types() {
  std::string names;
  for (const auto& [number, type] : kTensorTypes) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", tensor_type_name(type));
  }
  return names;
}

/// Names of those that we don't, for messages.
std::string unsupported_type_name(std::uint32_t number) {
  static constexpr std::pair<std::uint32_t, std::string_view> kNames[] = {
      {9, "Q8_1"},
      {15, "Q8_K"},
      {16, "IQ2_XXS"},
      {17, "IQ2_XS"},
      {18, "IQ3_XXS"},
      {19, "IQ1_S"},
      {21, "IQ3_S"},
      {22, "IQ2_S"},
      {24, "I8"},
      {25, "I16"},
      {26, "I32"},
      {27, "I64"},
      {28, "F64"},
      {29, "IQ1_M"},
      {34, "TQ1_0"},
      {35, "TQ2_0"},
      {40, "NVFP4"},
  };
  for (const auto& [known, name] : kNames) {
    if (known == number) return std::string(name);
  }
  return fmt::format("number {}", number);
}

struct TensorEntry {
  TensorView view;
  std::uint64_t offset = 0;  ///< From the start of the tensor data.
  std::uint64_t size = 0;
};

TensorEntry read_tensor(Cursor& cursor) {
  TensorEntry entry;
  entry.view.name = cursor.string();
  const auto axes = cursor.number<std::uint32_t>();
  if (axes > kAxesMax) {
    cursor.corrupt(fmt::format("tensor '{}' has {} axes", entry.view.name, axes));
    return entry;
  }
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < axes && !cursor.failed(); ++i) {
    const auto axis = cursor.number<std::uint64_t>();
    constexpr auto kElementsMax = std::uint64_t{1} << 48;
    if (axis > kElementsMax || (axis != 0 && elements > kElementsMax / axis)) {
      cursor.corrupt(fmt::format("tensor '{}' has an axis of {}", entry.view.name, axis));
      return entry;
    }
    elements *= axis;
    // The file lists the innermost axis first.
    entry.view.shape.insert(entry.view.shape.begin(), static_cast<std::int64_t>(axis));
  }
  const auto number = cursor.number<std::uint32_t>();
  entry.offset = cursor.number<std::uint64_t>();
  if (cursor.failed()) return entry;
  const auto type = tensor_type(number);
  if (!type) {
    cursor.unsupported(fmt::format("tensor '{}' has type {}, which is not supported ({} are)",
                                   entry.view.name,
                                   unsupported_type_name(number),
                                   supported_types()));
    return entry;
  }
  entry.view.type = *type;
  if (is_block_quantised(*type) && entry.view.columns() % block_elements(*type) != 0) {
    cursor.corrupt(fmt::format("tensor '{}' of type {} has rows of {} elements",
                               entry.view.name,
                               tensor_type_name(*type),
                               entry.view.columns()));
    return entry;
  }
  entry.size = static_cast<std::uint64_t>(entry.view.rows() *
                                          row_bytes(entry.view.type, entry.view.columns()));
  return entry;
}

}  // namespace

Result<Gguf> Gguf::parse(std::span<const std::byte> bytes, std::string file) {
  Gguf gguf;
  Cursor cursor(bytes, file);
  if (const auto magic = cursor.take(4, "the magic");
      !cursor.failed() && std::memcmp(magic.data(), "GGUF", 4) != 0) {
    cursor.corrupt("this is not a GGUF file");
  }
  const auto version = cursor.number<std::uint32_t>();
  if (!cursor.failed() && version != 2 && version != 3) {
    cursor.unsupported(fmt::format("GGUF version {} is not supported (2 and 3 are)", version));
  }
  const auto tensor_count = cursor.number<std::uint64_t>();
  const auto value_count = cursor.number<std::uint64_t>();
  for (std::uint64_t i = 0; i < value_count && !cursor.failed(); ++i) {
    std::string key(cursor.string());
    const auto type = static_cast<GgufType>(cursor.number<std::uint32_t>());
    GgufValue value = cursor.failed() ? GgufValue{std::uint64_t{0}} : read_value(cursor, type);
    if (!cursor.failed() && !gguf.values_.emplace(key, value).second) {
      cursor.corrupt(fmt::format("key '{}' stands twice", key));
    }
  }
  std::vector<TensorEntry> entries;
  std::set<std::string, std::less<>> names;
  for (std::uint64_t i = 0; i < tensor_count && !cursor.failed(); ++i) {
    entries.push_back(read_tensor(cursor));
    if (!cursor.failed() && !names.insert(entries.back().view.name).second) {
      cursor.corrupt(fmt::format("tensor '{}' stands twice", entries.back().view.name));
    }
  }
  const auto alignment =
      static_cast<std::uint64_t>(gguf.integer("general.alignment").value_or(kDefaultAlignment));
  if (alignment == 0 || alignment > kAlignmentMax) {
    cursor.corrupt(fmt::format("an alignment of {}", alignment));
  }
  if (cursor.failed()) return cursor.error();

  const std::uint64_t data_at = (cursor.at() + alignment - 1) / alignment * alignment;
  const std::uint64_t data_size = bytes.size() < data_at ? 0 : bytes.size() - data_at;
  for (TensorEntry& entry : entries) {
    if (entry.offset > data_size || entry.size > data_size - entry.offset) {
      cursor.corrupt(fmt::format("tensor '{}' needs {} bytes at {} of the data, which has {}",
                                 entry.view.name,
                                 entry.size,
                                 entry.offset,
                                 data_size));
      return cursor.error();
    }
    if (entry.size != 0) {
      entry.view.bytes = bytes.subspan(static_cast<std::size_t>(data_at + entry.offset),
                                       static_cast<std::size_t>(entry.size));
    }
    entry.view.file = file;
    gguf.tensors_.push_back(std::move(entry.view));
  }
  gguf.header_ = bytes.first(cursor.at());
  return gguf;
}

const GgufValue* Gguf::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::optional<std::int64_t> Gguf::integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::int64_t>(value)) return *number;
  const auto* number = std::get_if<std::uint64_t>(value);
  if (number == nullptr || *number > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(*number);
}

std::optional<double> Gguf::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto whole = integer(key)) return static_cast<double>(*whole);
  return std::nullopt;
}

std::optional<bool> Gguf::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* flag = value == nullptr ? nullptr : std::get_if<bool>(value);
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

std::optional<std::string_view> Gguf::string(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string_view>(value);
  return text == nullptr ? std::nullopt : std::optional(*text);
}

namespace {

template <class T>
std::optional<std::vector<T>> numbers(const GgufValue* value,
                                      std::initializer_list<GgufType> types) {
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || std::find(types.begin(), types.end(), array->type) == types.end()) {
    return std::nullopt;
  }
  std::vector<T> result(static_cast<std::size_t>(array->count));
  if (!result.empty()) std::memcpy(result.data(), array->bytes.data(), array->bytes.size());
  return result;
}

}  // namespace

std::optional<std::vector<std::string>> Gguf::strings(std::string_view key) const {
  const GgufValue* value = find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr || array->type != GgufType::kString) return std::nullopt;
  static const std::string kNoFile;
  Cursor cursor(array->bytes, kNoFile);
  std::vector<std::string> result;
  result.reserve(static_cast<std::size_t>(array->count));
  for (std::uint64_t i = 0; i < array->count; ++i) result.emplace_back(cursor.string());
  return result;
}

std::optional<std::vector<std::int32_t>> Gguf::integers(std::string_view key) const {
  return numbers<std::int32_t>(find(key), {GgufType::kInt32, GgufType::kUint32});
}

std::optional<std::vector<float>> Gguf::floats(std::string_view key) const {
  return numbers<float>(find(key), {GgufType::kFloat32});
}

}  // namespace mlxs::engine
