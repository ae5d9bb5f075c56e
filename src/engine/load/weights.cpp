#include "engine/load/weights.h"

#include "engine/load/repack.h"
#include "engine/load/tensor.h"

#include <fmt/format.h>
#include <mlx/allocator.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <array>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// Tensors that some exporters write and no model needs, by the end of their names.
constexpr std::array<std::string_view, 1> kHarmlessExtras = {
    ".self_attn.rotary_emb.inv_freq",  // Old transformers saved the rope table with each layer.
};

bool harmless_extra(std::string_view name) {
  return std::ranges::any_of(kHarmlessExtras,
                             [name](std::string_view end) { return name.ends_with(end); });
}

mx::Dtype mlx_dtype(TensorType type) {
  switch (type) {
    case TensorType::kF16:
      return mx::float16;
    case TensorType::kBF16:
      return mx::bfloat16;
    case TensorType::kU32:
      return mx::uint32;
    default:
      return mx::float32;
  }
}

mx::array empty() { return mx::zeros({0}); }

mx::Shape mlx_shape(std::span<const std::int64_t> shape) {
  mx::Shape result;
  for (const std::int64_t axis : shape) result.push_back(static_cast<mx::ShapeElem>(axis));
  return result;
}

mx::array uninitialised(mx::Shape shape, mx::Dtype dtype) {
  std::size_t bytes = mx::size_of(dtype);
  for (const auto axis : shape) bytes *= static_cast<std::size_t>(axis);
  return mx::array(mx::allocator::malloc(bytes), std::move(shape), dtype);
}

/// The tensor's elements as stored, rows in Hugging Face order.
mx::array stored(const TensorView& tensor) {
  mx::array out = uninitialised(mlx_shape(tensor.shape), mlx_dtype(tensor.type));
  copy_rows(tensor, reinterpret_cast<std::byte*>(out.data<char>()));
  return out;
}

mx::array evaluated(mx::array value) {
  mx::eval(value);
  return value;
}

}  // namespace

WeightReader::WeightReader(const Checkpoint& checkpoint,
                           WeightPolicy policy,
                           std::function<void(double)> progress)
    : checkpoint_(checkpoint), policy_(policy), progress_(std::move(progress)) {
  for (const auto& [name, tensor] : checkpoint_.tensors) file_bytes_total_ += tensor.bytes.size();
}

bool WeightReader::contains(std::string_view name) const {
  return checkpoint_.tensors.contains(name);
}

void WeightReader::reject(std::string message) {
  if (!error_) error_ = fail(ErrorCode::kCorruptFile, "[weights] " + std::move(message));
}

void WeightReader::advance(const TensorView& tensor) {
  file_bytes_read_ += tensor.bytes.size();
  if (progress_ && file_bytes_total_ != 0) {
    progress_(static_cast<double>(file_bytes_read_) / static_cast<double>(file_bytes_total_));
  }
}

const TensorView* WeightReader::find(const std::string& name) {
  if (error_) return nullptr;
  const auto found = checkpoint_.tensors.find(name);
  if (found == checkpoint_.tensors.end()) {
    reject(fmt::format("{}: tensor '{}' is missing", checkpoint_.config_file, name));
    return nullptr;
  }
  used_.insert(name);
  return &found->second;
}

const TensorView* WeightReader::find(const std::string& name,
                                     std::initializer_list<std::int64_t> shape) {
  const TensorView* tensor = find(name);
  if (tensor == nullptr) return nullptr;
  if (!std::ranges::equal(tensor->shape, shape)) {
    reject(fmt::format("{}: tensor '{}' has shape {}, expected {}",
                       tensor->file,
                       tensor->name,
                       shape_text(tensor->shape),
                       shape_text({shape.begin(), shape.size()})));
    return nullptr;
  }
  return tensor;
}

mx::array WeightReader::dense(const TensorView& tensor, mx::Dtype dtype) {
  if (tensor.type == TensorType::kU32) {
    reject(fmt::format("{}: tensor '{}' is packed but has no scales", tensor.file, tensor.name));
    return empty();
  }
  advance(tensor);
  if (!is_block_quantised(tensor.type) && mlx_dtype(tensor.type) == dtype) return stored(tensor);
  mx::array wide = uninitialised(mlx_shape(tensor.shape), mx::float32);
  widen_rows(tensor, wide.data<float>());
  return dtype == mx::float32 ? wide : evaluated(mx::astype(wide, dtype));
}

mx::array WeightReader::vector(const std::string& name, int size) {
  const TensorView* tensor = find(name, {size});
  if (tensor == nullptr) return empty();
  mx::array out = dense(*tensor, policy_.dtype);
  bytes_ += out.nbytes();
  return out;
}

mx::array WeightReader::vector_float32(const std::string& name, int size) {
  const TensorView* tensor = find(name, {size});
  if (tensor == nullptr) return empty();
  mx::array out = dense(*tensor, mx::float32);
  bytes_ += out.nbytes();
  return out;
}

Weight WeightReader::affine_part(const Part& part, int columns, const TensorView& packed) {
  const TensorView* scales = find(part.name + ".scales");
  const TensorView* biases = find(part.name + ".biases");
  if (scales == nullptr || biases == nullptr) return {empty()};
  // Bits and group size follow from the shapes, so per-layer overrides need no configuration.
  const auto bits = packed.columns() * 32 / std::max(columns, 1);
  const auto group_size = columns / std::max<std::int64_t>(scales->columns(), 1);
  const std::int64_t rows = part.rows;
  const bool right =
      packed.type == TensorType::kU32 && (bits == 4 || bits == 8) &&
      (group_size == 32 || group_size == 64 || group_size == 128) &&
      std::ranges::equal(packed.shape, std::initializer_list{rows, columns * bits / 32}) &&
      std::ranges::equal(scales->shape, std::initializer_list{rows, columns / group_size}) &&
      std::ranges::equal(biases->shape, scales->shape) && columns % group_size == 0 &&
      scales->type != TensorType::kU32 && biases->type != TensorType::kU32;
  if (!right) {
    reject(
        fmt::format("{}: tensors '{}.weight', '.scales' and '.biases' have shapes {}, {} and {}, "
                    "expected [{}, {}] in affine groups of 32, 64 or 128 with 4 or 8 bits",
                    packed.file,
                    part.name,
                    shape_text(packed.shape),
                    shape_text(scales->shape),
                    shape_text(biases->shape),
                    rows,
                    columns));
    return {empty()};
  }
  advance(packed);
  Weight weight{.data = stored(packed),
                .scales = dense(*scales, policy_.dtype),
                .biases = dense(*biases, policy_.dtype),
                .group_size = static_cast<int>(group_size),
                .bits = static_cast<int>(bits)};
  return weight;
}

Weight WeightReader::part_matrix(const Part& part, int columns) {
  const std::string name = part.name + ".weight";
  if (contains(part.name + ".scales")) {
    const TensorView* packed = find(name);
    return packed == nullptr ? Weight{empty()} : affine_part(part, columns, *packed);
  }
  const TensorView* tensor = find(name, {part.rows, columns});
  if (tensor == nullptr) return {empty()};
  if (!policy_.keep_quantised || !is_block_quantised(tensor->type)) {
    return {dense(*tensor, policy_.dtype)};
  }
  advance(*tensor);
  const int bits = affine_bits(tensor->type);
  Weight weight{.data = uninitialised({part.rows, columns * bits / 32}, mx::uint32),
                .scales = uninitialised({part.rows, columns / kQuantBlock}, mx::float32),
                .biases = uninitialised({part.rows, columns / kQuantBlock}, mx::float32),
                .group_size = kQuantBlock,
                .bits = bits};
  to_affine(*tensor,
            weight.data.data<std::uint32_t>(),
            weight.scales->data<float>(),
            weight.biases->data<float>());
  weight.scales = evaluated(mx::astype(*weight.scales, policy_.dtype));
  weight.biases = evaluated(mx::astype(*weight.biases, policy_.dtype));
  return weight;
}

namespace {

Weight widened(const Weight& weight) {
  if (!weight.quantised()) return weight;
  return {evaluated(
      mx::dequantize(weight.data, *weight.scales, weight.biases, weight.group_size, weight.bits))};
}

mx::array below(const std::vector<Weight>& parts, const auto& member) {
  std::vector<mx::array> arrays;
  for (const Weight& part : parts) arrays.push_back(member(part));
  return evaluated(mx::concatenate(std::move(arrays), 0));
}

}  // namespace

Weight WeightReader::matrix(const std::vector<Part>& parts, int columns) {
  std::vector<Weight> loaded;
  for (const Part& part : parts) {
    loaded.push_back(part_matrix(part, columns));
    if (error_) return {empty()};
  }
  const Weight& first = loaded.front();
  const bool alike = std::ranges::all_of(loaded, [&](const Weight& weight) {
    return weight.bits == first.bits && weight.group_size == first.group_size;
  });
  if (!policy_.keep_quantised || !alike) {
    for (Weight& weight : loaded) weight = widened(weight);
  }
  Weight whole = loaded.front();
  if (loaded.size() > 1) {
    whole.data = below(loaded, [](const Weight& part) { return part.data; });
    if (whole.quantised()) {
      whole.scales = below(loaded, [](const Weight& part) { return *part.scales; });
      whole.biases = below(loaded, [](const Weight& part) { return *part.biases; });
    }
  }
  bytes_ += whole.bytes();
  return whole;
}

mx::array WeightReader::bias(const std::vector<Part>& parts) {
  std::vector<mx::array> arrays;
  for (const Part& part : parts) {
    const TensorView* tensor = find(part.name + ".bias", {part.rows});
    if (tensor == nullptr) return empty();
    arrays.push_back(dense(*tensor, policy_.dtype));
  }
  mx::array whole = evaluated(mx::concatenate(std::move(arrays), 0));
  bytes_ += whole.nbytes();
  return whole;
}

Result<void> WeightReader::finish() const {
  if (error_) return *error_;
  for (const auto& [name, tensor] : checkpoint_.tensors) {
    if (used_.contains(name) || harmless_extra(name)) continue;
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[weights] {}: tensor '{}' of shape {} belongs to nothing in a '{}'",
                            tensor.file,
                            tensor.name,
                            shape_text(tensor.shape),
                            std::string_view(checkpoint_.config.at("model_type").as_string())));
  }
  return {};
}

}  // namespace mlxs::engine
