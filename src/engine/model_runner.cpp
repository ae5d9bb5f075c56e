#include "engine/model_runner.h"

#include "base/assert.h"
#include "base/hash.h"
#include "engine/kv/pool.h"
#include "engine/kv/window_blocks.h"
#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"
#include "engine/load/memory_limit.h"
#include "engine/load/packed_store.h"
#include "engine/load/weights.h"
#include "engine/models/model.h"

#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <mlx/device.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// Shares of the memory limit. What is left is for activations, logits and the rest of the process.
constexpr double kWideWeightsShare = 0.5;  // Up to here quantised weights are widened on CPU.
constexpr double kWeightsShare = 0.85;
constexpr double kKvShare = 0.25;
constexpr double kBesideActivations = 0.92;  // Weights and the default pool together.
constexpr int kDefaultContextShare = 4;      // By default each row gets a quarter of the context.

mx::array int_array(const std::vector<std::int32_t>& values) {
  return mx::array(values.begin(), mx::Shape{static_cast<int>(values.size())}, mx::int32);
}

class ModelRunner : public Runner {
 public:
  /// `store`: what may still be writing packed weights; null: nothing.
  ModelRunner(ModelInfo info,
              std::unique_ptr<Model> model,
              KvPoolShape pool_shape,
              std::unique_ptr<PackedStore> store)
      : info_(std::move(info)),
        model_(std::move(model)),
        pool_(std::move(pool_shape)),
        store_(std::move(store)) {}

  const ModelInfo& info() const override { return info_; }

  Result<Logits> run(const Step& step) override {
    // MLX throws when shapes disagree, when an operation fails and when memory runs out.
    try {
      return evaluate(step);
    } catch (const std::exception& exception) {
      return fail(ErrorCode::kInternal,
                  fmt::format("[runner] a step of {} tokens in {} rows failed: {}",
                              step.tokens.size(),
                              step.segments.size(),
                              exception.what()));
    }
  }

 private:
  Logits evaluate(const Step& step) {
    const StepArrays arrays = make_arrays(step);
    std::vector<KvLayer> layers = pool_.layers();
    mx::array logits = model_->forward(arrays, layers);
    std::vector<mx::array> outputs{logits};
    for (const KvLayer& layer : layers) {
      outputs.push_back(layer.keys);
      outputs.push_back(layer.values);
    }
    mx::eval(std::move(outputs));
    // Only now: had anything thrown, the pool would still be the one of before. What the step has
    // written by then lies past the rows' lengths, where a retry writes it again.
    pool_.advance(std::move(layers));
    logits_ = std::move(logits);
    return {.values = {logits_.data<float>(), logits_.size()}, .vocab_size = info_.vocab_size};
  }

  StepArrays make_arrays(const Step& step) const {
    std::vector<std::int32_t> positions;
    for (const Segment& segment : step.segments)
      for (int position = segment.kv_len - segment.q_len; position < segment.kv_len; ++position)
        positions.push_back(position);
    MLXS_ASSERT(!step.tokens.empty() && positions.size() == step.tokens.size());
    for (const TokenId token : step.tokens) {
      MLXS_ASSERT(token >= 0 && token < info_.vocab_size);
    }
    for (const int at : step.logits_at) MLXS_ASSERT(at >= 0 && at < std::ssize(step.tokens));
    StepArrays arrays{.tokens = int_array(step.tokens),
                      .positions = int_array(positions),
                      .slots = slots(step.segments, info_.blocks_total),
                      .logits_at = int_array(step.logits_at),
                      .attention = std::make_shared<AttentionPlan>(step.segments, kBlockTokens)};
    if (step.segments.front().window_blocks.empty()) return arrays;
    for (std::size_t w = 0; w < info_.windows.size(); ++w) {
      std::vector<Segment> segments = step.segments;
      for (Segment& segment : segments) segment.blocks = std::move(segment.window_blocks.at(w));
      StepArrays of_window = arrays;
      of_window.windows.clear();
      of_window.slots = slots(segments, info_.windows[w].blocks_total);
      of_window.attention = std::make_shared<AttentionPlan>(segments, kBlockTokens);
      arrays.windows.push_back(std::move(of_window));
    }
    return arrays;
  }

  /// Where the step's keys and values go, of layers that have `blocks_total` blocks.
  static mx::array slots(const std::vector<Segment>& segments, int blocks_total) {
    std::vector<std::int32_t> slots;
    for (const Segment& segment : segments) {
      MLXS_ASSERT(std::ssize(segment.blocks) * kBlockTokens >= segment.kv_len);
      for (const BlockId block : segment.blocks)
        MLXS_ASSERT(static_cast<int>(block) >= 0 && static_cast<int>(block) < blocks_total);
      for (int position = segment.kv_len - segment.q_len; position < segment.kv_len; ++position) {
        const auto block = segment.blocks[static_cast<std::size_t>(position / kBlockTokens)];
        slots.push_back(static_cast<std::int32_t>(block) * kBlockTokens + position % kBlockTokens);
      }
    }
    return int_array(slots);
  }

  ModelInfo info_;
  std::unique_ptr<Model> model_;
  KvPool pool_;
  mx::array logits_ = mx::zeros({0});
  std::unique_ptr<PackedStore> store_;
};

/// The dtype the checkpoint's own activations have.
mx::Dtype checkpoint_dtype(const Checkpoint& checkpoint) {
  for (const char* name : {"model.embed_tokens.scales", "model.embed_tokens.weight"}) {
    const auto found = checkpoint.tensors.find(name);
    if (found == checkpoint.tensors.end()) continue;
    switch (found->second.type) {
      case TensorType::kF32:
        return mx::float32;
      case TensorType::kBF16:
        return mx::bfloat16;
      default:
        return mx::float16;
    }
  }
  return mx::float16;
}

/// What weights, pool and activations may take together: of the process on CPU and where GPU and
/// CPU share their memory, else of the GPU.
DeviceLimits device_limits() {
  DeviceLimits limits{.bytes = memory_limit_bytes()};
  if (mx::default_device() == mx::Device::cpu) return limits;
  const auto& info = mx::device_info(mx::default_device());
  const auto lower = [&](std::uint64_t& limit, const char* key) {
    const auto found = info.find(key);
    if (found == info.end()) return;
    if (const auto* value = std::get_if<std::size_t>(&found->second))
      limit = std::min<std::uint64_t>(limit, *value);
  };
  lower(limits.bytes, "total_memory");
  lower(limits.bytes, "memory_size");
  lower(limits.buffers, "resource_limit");
  lower(limits.buffer_bytes, "max_buffer_length");
  return limits;
}

/// Arrays are alive together: a tensor's values, scales and offsets, keys and values of each layer,
/// and what the operations of a step leave until it is over. MLX gives buffers that it keeps for
/// reuse back by itself when there are too many.
Result<std::uint64_t> count_buffers(const Checkpoint& checkpoint, int layers, std::uint64_t limit) {
  constexpr std::uint64_t kOfTensor = 3;
  constexpr std::uint64_t kOfLayer = 2 + 64;
  const std::uint64_t buffers =
      kOfTensor * checkpoint.tensors.size() + kOfLayer * static_cast<std::uint64_t>(layers);
  if (buffers <= limit) return buffers;
  return fail(ErrorCode::kOutOfMemory,
              fmt::format("[runner] {}: {} tensors and {} layers need up to {} buffers of {} that "
                          "the device has",
                          checkpoint.config_file,
                          checkpoint.tensors.size(),
                          layers,
                          buffers,
                          limit));
}

struct WeightSizes {
  std::uint64_t stored = 0;
  std::uint64_t wide = 0;  ///< With every quantised matrix widened to float32.
  bool quantised = false;
};

/// Bits of a value in a tensor packed as MLX does; what the configuration says of the tensor, else
/// of all, else the most common.
std::uint64_t bits_of_value(const Checkpoint& checkpoint, std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  const auto* all = checkpoint.config.if_contains("quantization");
  if (all == nullptr || !all->is_object()) return 4;
  if (tensor.ends_with(kWeight)) tensor.remove_suffix(kWeight.size());
  const auto* own = all->get_object().if_contains(tensor);
  const auto* bits =
      (own != nullptr && own->is_object() ? *own : *all).get_object().if_contains("bits");
  const bool known = bits != nullptr && bits->is_int64() && bits->get_int64() >= 1;
  return known ? static_cast<std::uint64_t>(bits->get_int64()) : 4;
}

WeightSizes weight_sizes(const Checkpoint& checkpoint) {
  WeightSizes sizes;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto elements = static_cast<std::uint64_t>(tensor.elements());
    const bool packed = tensor.type == TensorType::kU32;
    sizes.stored += tensor.bytes.size();
    sizes.wide += 4 * (packed ? elements * 32 / bits_of_value(checkpoint, name) : elements);
    sizes.quantised = sizes.quantised || packed || is_block_quantised(tensor.type);
  }
  return sizes;
}

/// CPU: float32 activations, since MLX's own quantised and half-precision products are slow there
/// (measured: 7 tok/s with SmolLM2-135M on two cores). Quantised weights are packed for our own
/// kernels where those take them and `compute` allows, else widened if float32 ones fit.
Result<WeightPolicy> weight_policy(const Checkpoint& checkpoint,
                                   const ModelOptions& options,
                                   std::uint64_t memory_limit) {
  const bool cpu = mx::default_device() == mx::Device::cpu;
  const bool wide = cpu || options.compute == Compute::kFloat32;
  WeightPolicy policy{wide ? mx::float32 : checkpoint_dtype(checkpoint), true};
  policy.pack = cpu && options.compute != Compute::kFloat32;
  policy.eight_bits = options.compute == Compute::kInt8;
  const WeightSizes sizes = weight_sizes(checkpoint);
  const auto limit = static_cast<double>(memory_limit);
  if (cpu) policy.keep_quantised = static_cast<double>(sizes.wide) > limit * kWideWeightsShare;
  const auto needed =
      policy.keep_quantised && (sizes.quantised || !wide) ? sizes.stored : sizes.wide;
  if (static_cast<double>(needed) > limit * kWeightsShare) {
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("[runner] {}: the weights need {} MiB of a memory limit of {} MiB",
                            checkpoint.config_file,
                            needed / kMiB,
                            memory_limit / kMiB));
  }
  return policy;
}

/// A pool divided among the layers.
struct PoolPlan {
  int blocks_total = 0;  ///< Of layers without a window.
  std::vector<KvWindow> windows;
  KvPoolShape shape;
};

/// The layers without a window get `blocks_total` blocks, the others as many as they can need.
PoolPlan divide_pool(const ModelShape& model, const ModelOptions& options, int blocks_total) {
  PoolPlan plan{blocks_total, {}, {{}, model.kv_heads, model.head_dim, model.kv_dtype}};
  for (const int window : model.windows) {
    const int needed = window_blocks_needed(
        window, kBlockTokens, std::max(1, options.sequences_max), options.step_tokens_max);
    plan.windows.push_back({window, std::min(blocks_total, needed)});
  }
  for (const int window : model.window_of)
    plan.shape.blocks.push_back(
        window == 0 ? blocks_total
                    : plan.windows[static_cast<std::size_t>(window) - 1].blocks_total);
  return plan;
}

Result<PoolPlan> plan_pool(const ModelShape& model,
                           const ModelOptions& options,
                           int context_tokens_max,
                           std::uint64_t weights_bytes,
                           const DeviceLimits& device) {
  const std::uint64_t memory_limit = device.bytes;
  const auto row_blocks =
      static_cast<std::uint64_t>(context_tokens_max + kBlockTokens - 1) / kBlockTokens;
  const auto rows = static_cast<std::uint64_t>(std::max(1, options.sequences_max));
  std::uint64_t bytes = 0;
  std::uint64_t blocks_max = INT32_MAX / kBlockTokens;  // Slots are int32.
  const KvPoolShape layer{{1}, model.kv_heads, model.head_dim, model.kv_dtype};
  blocks_max = std::min(blocks_max, device.buffer_bytes / (layer.block_bytes() / 2));
  // Where all layers have windows, blocks beyond what rows can hold would cost nothing for ever.
  if (std::ranges::find(model.window_of, 0) == model.window_of.end())
    blocks_max = std::min(blocks_max, rows * row_blocks);
  if (options.kv_bytes) {
    bytes = *options.kv_bytes;
  } else {
    // At least one row can reach the full context; the rest share.
    blocks_max =
        std::min(blocks_max, std::max(row_blocks, rows * row_blocks / kDefaultContextShare));
    const auto limit = static_cast<double>(memory_limit);
    const double room =
        std::max(0.0, limit * kBesideActivations - static_cast<double>(weights_bytes));
    bytes = static_cast<std::uint64_t>(std::min(limit * kKvShare, room));
  }
  const auto divided = [&](std::uint64_t blocks) {
    return divide_pool(model, options, static_cast<int>(blocks));
  };
  std::uint64_t blocks = 0;  // The most known to fit.
  for (std::uint64_t beyond = blocks_max + 1; blocks + 1 < beyond;) {
    const std::uint64_t middle = blocks + (beyond - blocks) / 2;
    (divided(middle).shape.bytes() <= bytes ? blocks : beyond) = middle;
  }
  PoolPlan plan = divided(blocks);
  if (blocks == 0 ||
      weights_bytes + (options.kv_bytes ? bytes : plan.shape.bytes()) > memory_limit) {
    return fail(
        ErrorCode::kOutOfMemory,
        fmt::format("[runner] a key/value pool of {} bytes (a block takes {}) beside {} MiB "
                    "of weights does not fit a memory limit of {} MiB",
                    bytes,
                    divided(1).shape.bytes(),
                    weights_bytes / kMiB,
                    memory_limit / kMiB));
  }
  return plan;
}

Result<SamplingParams> default_sampling(const Checkpoint& checkpoint) {
  ConfigReader generation(checkpoint.generation, "generation_config.json");
  SamplingParams params;
  params.temperature = static_cast<float>(generation.number("temperature", params.temperature));
  params.top_p = static_cast<float>(generation.number("top_p", params.top_p));
  params.min_p = static_cast<float>(generation.number("min_p", params.min_p));
  params.repetition_penalty =
      static_cast<float>(generation.number("repetition_penalty", params.repetition_penalty));
  const double top_k = generation.number("top_k", params.top_k);
  if (!(params.temperature >= 0)) generation.reject("temperature", "has to be 0 or more");
  if (!(params.top_p > 0 && params.top_p <= 1)) generation.reject("top_p", "has to be in (0, 1]");
  if (!(top_k >= 0 && top_k <= INT32_MAX)) generation.reject("top_k", "has to be 0 or more");
  if (!(params.min_p >= 0 && params.min_p <= 1)) generation.reject("min_p", "has to be in [0, 1]");
  if (!(params.repetition_penalty > 0))
    generation.reject("repetition_penalty", "has to be above 0");
  MLXS_TRY(generation.status());
  params.top_k = static_cast<int>(top_k);
  return params;
}

/// For packed weights of `checkpoint`; null where none are to be kept.
std::unique_ptr<PackedStore> packed_store(const Checkpoint& checkpoint,
                                          const ModelOptions& options,
                                          const WeightPolicy& policy) {
  if (!policy.pack || options.packed_bytes_max == 0) return nullptr;
  return std::make_unique<PackedStore>(
      PackedFolder{options.packed_folder, options.packed_bytes_max},
      fmt::format("{} layout {} of {}", checkpoint.digest, kPanelLayout, product_kernels().name));
}

Result<std::unique_ptr<Runner>> load(const ModelOptions& options, const LoadProgress& progress) {
  auto checkpoint = open_checkpoint(options.source);
  if (!checkpoint) return checkpoint.error();
  auto sampling = default_sampling(*checkpoint);
  if (!sampling) return sampling.error();

  const DeviceLimits device = options.device.value_or(device_limits());
  const std::uint64_t memory_limit = device.bytes;
  mx::set_memory_limit(memory_limit);
  mx::set_cache_limit(memory_limit / 16);  // While loading; see below.
  auto policy = weight_policy(*checkpoint, options, memory_limit);
  if (!policy) return policy.error();

  auto store = packed_store(*checkpoint, options, *policy);
  WeightReader weights(*checkpoint, *policy, progress, store ? store->read() : PackedMatrices{});
  auto model = make_model(*checkpoint, weights);
  if (!model) return model.error();
  MLXS_TRY(weights.finish());
  if (store && weights.packed_anew()) store->keep(weights.packed());
  // Buffers kept for reuse. A step's fit many times over; steps of every size would, in time, fill
  // whatever there is, so that a process seems to leak (R-ENG-4).
  mx::set_cache_limit(std::min(memory_limit / 16, 64 * kMiB + weights.bytes() / 16));

  const ModelShape& shape = (*model)->shape();
  auto buffers = count_buffers(*checkpoint, shape.layers, device.buffers);
  if (!buffers) return buffers.error();
  ModelInfo info{
      .architecture = std::string(checkpoint->config["model_type"].as_string()),
      .vocab_size = shape.vocab_size,
      .context_tokens_max = std::min(shape.context_tokens_max,
                                     options.context_tokens_max.value_or(shape.context_tokens_max)),
      .block_tokens = kBlockTokens,
      .blocks_total = 0,
      .end_tokens = checkpoint->end_tokens,
      .weights_bytes = weights.bytes(),
      .kv_bytes = 0,
      .buffers = *buffers,
      // Other arithmetic, other answers: nothing may be kept or taken up across these.
      .weights_digest = policy->eight_bits ? to_hex(sha256(checkpoint->digest + " in eight bits"))
                                           : checkpoint->digest,
      .default_sampling = *sampling};
  auto pool = plan_pool(shape, options, info.context_tokens_max, info.weights_bytes, device);
  if (!pool) return pool.error();
  info.blocks_total = pool->blocks_total;
  info.windows = std::move(pool->windows);
  info.kv_bytes = pool->shape.bytes();
  auto runner = std::make_unique<ModelRunner>(
      std::move(info), std::move(*model), std::move(pool->shape), std::move(store));
  if (progress) progress(1.0);
  return std::unique_ptr<Runner>(std::move(runner));
}

}  // namespace

Result<std::unique_ptr<Runner>> load_runner(const ModelOptions& options,
                                            const LoadProgress& progress) {
  try {
    return load(options, progress);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("[runner] no memory to load {}", options.source.string()));
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kInternal,
                fmt::format("[runner] loading {}: {}", options.source.string(), exception.what()));
  }
}

}  // namespace mlxs::engine
