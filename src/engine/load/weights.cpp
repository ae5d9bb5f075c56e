#include "engine/load/weights.h"

#include "engine/load/blocks.h"
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
    case TensorType::kU8:
      return mx::uint8;
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
                           std::function<void(double)> progress,
                           PackedMatrices kept)
    : checkpoint_(checkpoint),
      policy_(policy),
      progress_(std::move(progress)),
      kept_(std::move(kept)) {
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

const TensorView* WeightReader::find(const std::string& name, std::span<const std::int64_t> shape) {
  const TensorView* tensor = find(name);
  if (tensor == nullptr) return nullptr;
  if (!std::ranges::equal(tensor->shape, shape)) {
    reject(fmt::format("{}: tensor '{}' has shape {}, expected {}",
                       tensor->file,
                       tensor->name,
                       shape_text(tensor->shape),
                       shape_text(shape)));
    return nullptr;
  }
  return tensor;
}

mx::array WeightReader::dense(const TensorView& tensor, mx::Dtype dtype) {
  if (!has_values(tensor.type)) {
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
  const TensorView* tensor = find(name, std::array<std::int64_t, 1>{size});
  if (tensor == nullptr) return empty();
  mx::array out = dense(*tensor, policy_.dtype);
  bytes_ += out.nbytes();
  return out;
}

mx::array WeightReader::vector_float32(const std::string& name, int size) {
  const TensorView* tensor = find(name, std::array<std::int64_t, 1>{size});
  if (tensor == nullptr) return empty();
  mx::array out = dense(*tensor, mx::float32);
  bytes_ += out.nbytes();
  return out;
}

mx::array WeightReader::vector_plus_one(const std::string& name, int size) {
  mx::array out = vector_float32(name, size);
  if (error_) return empty();
  if (!checkpoint_.tensors.find(name)->second.one_added) out = mx::add(out, mx::array(1.0f));
  return evaluated(mx::astype(out, policy_.dtype));
}

namespace {

/// MLX's name of a form with scales of eight bits; each allows one pair of bits and group size.
std::string_view float_mode(std::int64_t bits, std::int64_t group_size) {
  if (bits == 4 && group_size == 32) return "mxfp4";
  if (bits == 4 && group_size == 16) return "nvfp4";
  if (bits == 8 && group_size == 32) return "mxfp8";
  return "";
}

bool affine_bits_known(std::int64_t bits) { return (bits >= 1 && bits <= 6) || bits == 8; }

}  // namespace

Weight WeightReader::read_packed(const std::string& name,
                                 const std::vector<std::int64_t>& leading,
                                 int columns) {
  const TensorView* packed = find(name + ".weight");
  const TensorView* scales = find(name + ".scales");
  if (packed == nullptr || scales == nullptr) return {empty()};
  // Bits and group size follow from the shapes, so per-layer overrides need no configuration.
  const auto bits = packed->columns() * 32 / columns;
  const auto group_size = columns / std::max<std::int64_t>(scales->columns(), 1);
  const auto shape = [&](std::int64_t last) {
    std::vector<std::int64_t> whole = leading;
    whole.push_back(last);
    return whole;
  };
  bool right = packed->type == TensorType::kU32 && group_size > 0 && columns % group_size == 0 &&
               packed->shape == shape(columns * bits / 32) &&
               scales->shape == shape(columns / group_size);
  Weight weight{empty()};
  const TensorView* biases = nullptr;
  if (scales->type == TensorType::kU8) {
    weight.mode = float_mode(bits, group_size);
    right = right && !weight.mode.empty();
  } else {
    biases = find(name + ".biases");
    if (biases == nullptr) return {empty()};
    right = right && affine_bits_known(bits) &&
            (group_size == 32 || group_size == 64 || group_size == 128) &&
            biases->shape == scales->shape && has_values(scales->type) && has_values(biases->type);
  }
  if (!right) {
    reject(
        fmt::format("{}: tensors '{}.weight' and '.scales' have types {} and {} and shapes {} and "
                    "{}, expected {} in affine groups of 32, 64 or 128 with 1 to 6 or 8 bits and "
                    "biases alike, or mxfp4, nvfp4 or mxfp8",
                    packed->file,
                    name,
                    tensor_type_name(packed->type),
                    tensor_type_name(scales->type),
                    shape_text(packed->shape),
                    shape_text(scales->shape),
                    shape_text(shape(columns))));
    return {empty()};
  }
  advance(*packed);
  weight.data = stored(*packed);
  weight.scales = biases == nullptr ? stored(*scales) : dense(*scales, policy_.dtype);
  if (biases != nullptr) weight.biases = dense(*biases, policy_.dtype);
  weight.group_size = static_cast<int>(group_size);
  weight.bits = static_cast<int>(bits);
  return weight;
}

Weight WeightReader::read_blocks(const TensorView& tensor, bool pack) {
  advance(tensor);
  if (tensor.type == TensorType::kMXFP4 && !pack) {
    mx::Shape shape = mlx_shape(tensor.shape);
    mx::Shape groups = shape;
    shape.back() /= 8;
    groups.back() /= kGroupElements;
    Weight weight{.data = uninitialised(shape, mx::uint32),
                  .scales = uninitialised(groups, mx::uint8),
                  .group_size = kGroupElements,
                  .bits = 4,
                  .mode = "mxfp4"};
    to_mxfp4(tensor, weight.data.data<std::uint32_t>(), weight.scales->data<std::uint8_t>());
    return weight;
  }
  const int bits = affine_bits(tensor.type);
  mx::Shape shape = mlx_shape(tensor.shape);
  const int columns = shape.back();
  shape.back() = columns * bits / 32;
  mx::Shape groups = shape;
  groups.back() = columns / kGroupElements;
  Weight weight{.data = uninitialised(shape, mx::uint32),
                .scales = uninitialised(groups, mx::float32),
                .biases = uninitialised(groups, mx::float32),
                .group_size = kGroupElements,
                .bits = bits};
  to_affine(tensor,
            weight.data.data<std::uint32_t>(),
            weight.scales->data<float>(),
            weight.biases->data<float>());
  weight.scales = evaluated(mx::astype(*weight.scales, policy_.dtype));
  weight.biases = evaluated(mx::astype(*weight.biases, policy_.dtype));
  return weight;
}

namespace {

bool can_pack(const Weight& weight) {
  return weight.quantised() && weight.mode == "affine" &&
         PackedMatrix::can_pack(
             weight.scales->shape(-1) * weight.group_size, weight.bits, weight.group_size);
}

/// Rows of all experts, one's below the other's.
int all_rows(const mx::array& data) {
  return data.ndim() == 3 ? data.shape(0) * data.shape(1) : data.shape(0);
}

/// `weight` as CPU kernels take it: affine, or dense float32.
Weight pack(const Weight& weight) {
  Weight result{empty()};
  result.experts = weight.data.ndim() == 3 ? weight.data.shape(0) : 0;
  if (!weight.quantised()) {
    result.packed = std::make_shared<const PackedMatrix>(DenseMatrix{
        all_rows(weight.data), weight.data.shape(-1), weight.data.data<float>(), weight.rough});
    return result;
  }
  const mx::array scales = evaluated(mx::astype(*weight.scales, mx::float32));
  const mx::array biases = evaluated(mx::astype(*weight.biases, mx::float32));
  result.packed = std::make_shared<const PackedMatrix>(
      AffineMatrix{.rows = all_rows(weight.data),
                   .columns = scales.shape(-1) * weight.group_size,
                   .bits = weight.bits,
                   .group_size = weight.group_size,
                   .data = weight.data.data<std::uint32_t>(),
                   .scales = scales.data<float>(),
                   .biases = biases.data<float>()});
  return result;
}

}  // namespace

Weight WeightReader::read(const std::string& name,
                          const std::vector<std::int64_t>& leading,
                          int columns,
                          bool pack) {
  const auto kept = [&](const Weight& weight) {
    const bool keep = policy_.keep_quantised || error_ || (pack && can_pack(weight));
    return keep ? weight : widened(weight);
  };
  if (contains(name + ".scales")) return kept(read_packed(name, leading, columns));
  std::vector<std::int64_t> shape = leading;
  shape.push_back(columns);
  const TensorView* tensor = find(name + ".weight", shape);
  if (tensor == nullptr) return {empty()};
  if (is_block_quantised(tensor->type)) {
    // Only what loses nothing: a type that is spread anew is better widened, where memory allows.
    const bool exact = pack && has_groups(tensor->type) &&
                       PackedMatrix::can_pack(columns, affine_bits(tensor->type), kGroupElements);
    if (policy_.keep_quantised || exact) return read_blocks(*tensor, pack);
  }
  Weight wide{dense(*tensor, policy_.dtype)};
  wide.rough = is_block_quantised(tensor->type);
  return wide;
}

Weight WeightReader::widened(const Weight& weight) const {
  return {evaluated(mx::dequantize(weight.data,
                                   *weight.scales,
                                   weight.biases,
                                   weight.group_size,
                                   weight.bits,
                                   weight.mode,
                                   std::nullopt,
                                   policy_.dtype))};
}

namespace {

/// Weights of one form, joined along `axis`.
Weight concatenated(std::span<const Weight> parts, int axis) {
  if (parts.size() == 1) return parts.front();
  const auto along = [&](const auto& member) {
    std::vector<mx::array> arrays;
    for (const Weight& part : parts) arrays.push_back(member(part));
    return evaluated(mx::concatenate(std::move(arrays), axis));
  };
  Weight whole = parts.front();
  whole.data = along([](const Weight& part) { return part.data; });
  if (whole.scales) whole.scales = along([](const Weight& part) { return *part.scales; });
  if (whole.biases) whole.biases = along([](const Weight& part) { return *part.biases; });
  return whole;
}

/// One expert's matrix as a stack of one.
Weight stack_of_one(Weight weight) {
  const auto lift = [](mx::array& array) { array = evaluated(mx::expand_dims(array, 0)); };
  lift(weight.data);
  if (weight.scales) lift(*weight.scales);
  if (weight.biases) lift(*weight.biases);
  return weight;
}

}  // namespace

std::vector<Weight> WeightReader::joined(std::vector<Weight> parts, int axis) {
  std::vector<Weight> result;
  for (std::size_t first = 0; first < parts.size() && !error_;) {
    std::size_t last = first + 1;
    while (last < parts.size() && parts[last].same_form(parts[first])) ++last;
    result.push_back(concatenated(std::span(parts).subspan(first, last - first), axis));
    bytes_ += result.back().bytes();
    first = last;
  }
  if (error_) return {{empty()}};
  return result;
}

Weight WeightReader::matrix(const Part& part, int columns) {
  return matrices({part}, columns).front();
}

namespace {

/// What packed parts are kept under.
std::string joined_name(const std::vector<WeightReader::Part>& parts) {
  std::string name;
  for (const WeightReader::Part& part : parts) name += (name.empty() ? "" : "+") + part.name;
  return name;
}

}  // namespace

namespace {

int rows_of(const std::vector<WeightReader::Part>& parts) {
  int rows = 0;
  for (const WeightReader::Part& part : parts) rows += part.rows;
  return rows;
}

/// Every name that experts' tensors may have.
std::vector<std::string> expert_tensors(const std::string& prefix,
                                        const std::vector<WeightReader::Part>& parts,
                                        int count) {
  std::vector<std::string> names;
  for (const WeightReader::Part& part : parts) {
    names.push_back(prefix + "switch_mlp." + part.name);
    for (int i = 0; i < count; ++i)
      names.push_back(fmt::format("{}experts.{}.{}", prefix, i, part.name));
  }
  return names;
}

}  // namespace

std::optional<std::vector<Weight>> WeightReader::take_kept(const std::string& name,
                                                           const std::vector<std::string>& tensors,
                                                           int rows,
                                                           int columns) {
  const auto found = kept_.find(name);
  if (found == kept_.end() || error_) return std::nullopt;
  for (const auto& matrix : found->second) {
    rows -= matrix->rows();
    if (matrix->columns() != columns) return std::nullopt;
  }
  if (rows != 0) return std::nullopt;
  for (const std::string& of : tensors) {
    for (const char* end : {".weight", ".scales", ".biases"}) {
      const auto tensor = checkpoint_.tensors.find(of + end);
      if (tensor == checkpoint_.tensors.end()) continue;
      used_.insert(tensor->first);
      advance(tensor->second);
    }
  }
  std::vector<Weight> result;
  for (const auto& matrix : found->second) {
    result.push_back({empty()});
    result.back().packed = handed_out(matrix);
    bytes_ += matrix->bytes();
  }
  packed_.insert(*found);
  return result;
}

std::vector<Weight> WeightReader::matrices(const std::vector<Part>& parts, int columns) {
  const std::string name = joined_name(parts);
  std::vector<std::string> tensors;
  for (const Part& part : parts) tensors.push_back(part.name);
  if (auto kept = take_kept(name, tensors, rows_of(parts), columns)) return std::move(*kept);
  std::vector<Weight> loaded;
  for (const Part& part : parts) {
    loaded.push_back(read(part.name, {part.rows}, columns, policy_.pack));
  }
  std::vector<Weight> result = joined(std::move(loaded), 0);
  if (policy_.pack) pack_all(name, result);
  return result;
}

void WeightReader::pack_all(const std::string& name, std::vector<Weight>& weights) {
  for (Weight& weight : weights) {
    if (error_ || (weight.quantised() && !can_pack(weight))) continue;
    bytes_ -= weight.bytes();
    weight = pack(weight);
    bytes_ += weight.bytes();
  }
  note_packed(name, weights);
  for (Weight& weight : weights) weight.packed = handed_out(std::move(weight.packed));
}

std::shared_ptr<const PackedMatrix> WeightReader::handed_out(
    std::shared_ptr<const PackedMatrix> matrix) const {
  if (!matrix || !policy_.eight_bits) return matrix;
  return std::make_shared<const PackedMatrix>(matrix->with_eight_bits());
}

void WeightReader::note_packed(const std::string& name, const std::vector<Weight>& weights) {
  if (error_ ||
      !std::ranges::all_of(weights, [](const Weight& one) { return one.packed != nullptr; }))
    return;
  auto& list = packed_[name];
  for (const Weight& weight : weights) list.push_back(weight.packed);
  packed_anew_ = true;
}

std::vector<Weight> WeightReader::experts(const std::string& prefix,
                                          const std::vector<Part>& parts,
                                          int count,
                                          int columns) {
  // Panels belong to one expert each.
  const bool pack = policy_.pack && std::ranges::all_of(parts, [](const Part& part) {
                      return part.rows % kPanelRows == 0;
                    });
  const std::string all = prefix + joined_name(parts);
  if (auto kept =
          take_kept(all, expert_tensors(prefix, parts, count), count * rows_of(parts), columns)) {
    for (Weight& weight : *kept) weight.experts = count;
    return std::move(*kept);
  }
  std::vector<Weight> loaded;
  for (const Part& part : parts) {
    const std::string stacked = prefix + "switch_mlp." + part.name;
    if (contains(stacked + ".weight")) {
      loaded.push_back(read(stacked, {count, part.rows}, columns, pack));
      continue;
    }
    std::vector<Weight> single;
    for (int i = 0; i < count && !error_; ++i) {
      const std::string name = fmt::format("{}experts.{}.{}", prefix, i, part.name);
      single.push_back(stack_of_one(read(name, {part.rows}, columns, pack)));
      if (!single.back().same_form(single.front())) {
        reject(fmt::format("{}: '{}.weight' is of another form than the experts before it",
                           checkpoint_.config_file,
                           name));
      }
    }
    if (error_) break;
    loaded.push_back(concatenated(single, 0));
  }
  std::vector<Weight> result = joined(std::move(loaded), 1);
  if (pack) pack_all(all, result);
  return result;
}

mx::array WeightReader::bias(const std::vector<Part>& parts) {
  std::vector<mx::array> arrays;
  for (const Part& part : parts) {
    const TensorView* tensor = find(part.name + ".bias", std::array<std::int64_t, 1>{part.rows});
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
