#include "engine/load/safetensors.h"

#include "engine/load/config_reader.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr std::uint64_t kHeaderBytesMax = 100'000'000;  // The format's own bound.
constexpr std::size_t kAxesMax = 8;

std::optional<TensorType> dtype(std::string_view name) {
  if (name == "F32") return TensorType::kF32;
  if (name == "F16") return TensorType::kF16;
  if (name == "BF16") return TensorType::kBF16;
  if (name == "U32") return TensorType::kU32;
  if (name == "U8") return TensorType::kU8;
  return std::nullopt;
}

std::optional<std::uint64_t> natural(const boost::json::value& value) {
  if (value.is_uint64()) return value.get_uint64();
  if (value.is_int64() && value.get_int64() >= 0) {
    return static_cast<std::uint64_t>(value.get_int64());
  }
  return std::nullopt;
}

/// A list of at most `count_max` non-negative numbers.
std::optional<std::vector<std::uint64_t>> naturals(const boost::json::value* value,
                                                   std::size_t count_max) {
  if (value == nullptr || !value->is_array() || value->get_array().size() > count_max) {
    return std::nullopt;
  }
  std::vector<std::uint64_t> numbers;
  for (const auto& item : value->get_array()) {
    const auto number = natural(item);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

/// Fills shape and size of `view`; nothing when the product leaves 2^48.
std::optional<std::uint64_t> apply_shape(TensorView& view,
                                         const std::vector<std::uint64_t>& shape) {
  constexpr auto kElementsMax = std::uint64_t{1} << 48;
  std::uint64_t elements = 1;
  for (const std::uint64_t axis : shape) {
    if (axis > kElementsMax || (axis != 0 && elements > kElementsMax / axis)) return std::nullopt;
    elements *= axis;
    view.shape.push_back(static_cast<std::int64_t>(axis));
  }
  return elements * static_cast<std::uint64_t>(row_bytes(view.type, 1));
}

Result<TensorView> read_tensor(std::string_view name,
                               const boost::json::value& value,
                               std::span<const std::byte> data,
                               const std::string& file) {
  const auto corrupt = [&](std::string_view reason) {
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[safetensors] {}: tensor '{}' {}", file, name, reason));
  };
  const auto* entry = value.if_object();
  if (entry == nullptr) return corrupt("is not an object");
  const auto* type_name = entry->if_contains("dtype");
  if (type_name == nullptr || !type_name->is_string()) return corrupt("has no dtype");
  const auto type = dtype(type_name->get_string());
  if (!type) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("[safetensors] {}: tensor '{}' has dtype {}, which is not supported "
                            "(F32, F16, BF16, U32 and U8 are)",
                            file,
                            name,
                            std::string_view(type_name->get_string())));
  }
  const auto shape = naturals(entry->if_contains("shape"), kAxesMax);
  if (!shape) return corrupt("has no valid shape");
  const auto offsets = naturals(entry->if_contains("data_offsets"), 2);
  if (!offsets || offsets->size() != 2) return corrupt("has no valid data_offsets");

  TensorView view{.name = std::string(name), .type = *type, .shape = {}, .bytes = {}, .file = file};
  const auto size = apply_shape(view, *shape);
  const auto [begin, end] = std::pair(offsets->front(), offsets->back());
  if (begin > end || end > data.size()) {
    return corrupt(fmt::format("covers bytes [{}, {}) of {}", begin, end, data.size()));
  }
  if (!size || *size != end - begin) {
    return corrupt(fmt::format("of shape {} and dtype {} covers {} bytes",
                               shape_text(view.shape),
                               tensor_type_name(view.type),
                               end - begin));
  }
  view.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return view;
}

}  // namespace

Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  const auto corrupt = [&](std::string_view reason) {
    return fail(ErrorCode::kCorruptFile, fmt::format("[safetensors] {}: {}", file, reason));
  };
  std::uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) return corrupt("is shorter than its length field");
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kHeaderBytesMax || header_size > bytes.size() - sizeof header_size) {
    return corrupt(fmt::format("a header of {} bytes does not fit", header_size));
  }
  Safetensors result;
  result.header = bytes.subspan(sizeof header_size, static_cast<std::size_t>(header_size));
  const auto data = bytes.subspan(sizeof header_size + static_cast<std::size_t>(header_size));
  auto header = parse_json_object(
      {reinterpret_cast<const char*>(result.header.data()), result.header.size()}, file);
  if (!header) return header.error();

  for (const auto& [name, value] : *header) {
    if (name == "__metadata__") continue;
    auto tensor = read_tensor(name, value, data, file);
    if (!tensor) return tensor.error();
    result.tensors.push_back(std::move(*tensor));
  }
  std::vector<const TensorView*> order;
  for (const TensorView& tensor : result.tensors) {
    if (!tensor.bytes.empty()) order.push_back(&tensor);
  }
  std::ranges::sort(order, {}, [](const TensorView* tensor) { return tensor->bytes.data(); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->bytes.data() + order[i - 1]->bytes.size() > order[i]->bytes.data()) {
      return corrupt(
          fmt::format("tensors '{}' and '{}' overlap", order[i - 1]->name, order[i]->name));
    }
  }
  return result;
}

}  // namespace mlxs::engine
