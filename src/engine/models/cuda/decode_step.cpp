#include "engine/models/cuda/decode_step.h"

#include "engine/ops/cuda/attention.h"
#include "engine/ops/cuda/module.h"
#include "engine/ops/cuda/step_kernels.h"

#include <fmt/format.h>
#include <mlx/allocator.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/transforms.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <utility>

namespace mlxs::engine::cuda {

namespace mx = mlx::core;

namespace {

constexpr int kMultiprocessors = 132;  // Of an H100: what splits are chosen for.
constexpr int kBlocksEach = 3;         // Thread blocks of a product that share one.
constexpr int kTilesPerSplitMin = 4;   // Fewer don't fill a product's pipeline.
constexpr int kSplitsMax = 16;
constexpr int kNormWidthMax = 8192;  // What step_add_norm holds in registers.
// Beyond, cuBLAS's products are faster than ours by more than the host loses (Qwen3-4B on an H100,
// 100 rows: 8.8 ms a step against 12.0).
constexpr int kDenseTokensMax = 64;
constexpr int kExpertsMax = 256;
constexpr int kExpertsEachMax = 16;

int tiles_of(int tokens) {
  int tiles = 1;
  while (tiles * 8 < tokens && tiles < kTokenTilesMax) tiles *= 2;
  return tiles;
}

struct Split {
  int count = 1;
  int tiles = 0;  ///< Of kInputTile inputs, each.
};

/// How a product of `features` over `inputs` is split so that it fills the device.
Split split_of(int features, int inputs) {
  const int blocks = features / kFeatureTile;
  const int tiles = inputs / kInputTile;
  const int wanted = std::clamp(kBlocksEach * kMultiprocessors / blocks, 1, kSplitsMax);
  const int each = std::max({kTilesPerSplitMin, (tiles + wanted - 1) / wanted, 1});
  return {(tiles + each - 1) / each, each};
}

bool whole_tiles(int features, int inputs) {
  return features % kFeatureTile == 0 && inputs % kInputTile == 0;
}

}  // namespace

struct DecodeStep::State {
  const DecoderSpec& spec;
  const std::vector<Rope>& ropes;
  StepWeights weights;
  int tokens_max;
  // Scratch, the same for every layer and step: a step is one chain of kernels.
  mx::array residual, normed, partials, queries, attended, gated;
  mx::array shares, expert_begin, expert_rows;
};

namespace {

mx::array room(std::size_t elements, mx::Dtype dtype) {
  mx::array made = mx::zeros({static_cast<int>(std::max<std::size_t>(elements, 1))}, dtype);
  mx::eval(made);
  return made;
}

/// Of partial results, for each token.
std::size_t partials_size(const DecoderSpec& spec) {
  const int heads = (spec.heads + 2 * spec.kv_heads) * spec.head_dim;
  const auto size = [](int features, int inputs) {
    return static_cast<std::size_t>(split_of(features, inputs).count) *
           static_cast<std::size_t>(features);
  };
  std::size_t most =
      std::max(size(heads, spec.hidden_size), size(spec.hidden_size, spec.heads * spec.head_dim));
  for (const LayerSpec& layer : spec.layers) {
    const FeedForwardSpec& block = layer.feed_forward;
    if (block.experts == 0) {
      most = std::max(most, size(spec.hidden_size, block.intermediate_size));
    } else {
      most = std::max(most,
                      static_cast<std::size_t>(block.experts_per_token) *
                          static_cast<std::size_t>(spec.hidden_size));
      most = std::max(most, size(block.experts, spec.hidden_size));
    }
  }
  return most;
}

bool fits(const DecoderSpec& spec) {
  const int queries = spec.heads * spec.head_dim;
  const int heads = queries + 2 * spec.kv_heads * spec.head_dim;
  if (spec.norms_add_one || spec.logit_softcap != 0 || spec.hidden_size > kNormWidthMax ||
      !whole_tiles(heads, spec.hidden_size) || !whole_tiles(spec.hidden_size, queries) ||
      !whole_tiles(spec.vocab_size, spec.hidden_size))
    return false;
  return std::ranges::all_of(spec.layers, [&](const LayerSpec& layer) {
    const FeedForwardSpec& block = layer.feed_forward;
    const bool experts_fit =
        block.experts == 0 || (block.experts <= kExpertsMax && block.experts % kFeatureTile == 0 &&
                               block.experts_per_token <= kExpertsEachMax);
    return !layer.output_norms && !layer.attention.output_bias && layer.attention.window == 0 &&
           !block.bias && experts_fit && block.activation == Activation::kSilu &&
           whole_tiles(spec.hidden_size, block.intermediate_size);
  });
}

bool dense(const StepWeights& weights) {
  const auto is = [](const mx::array& array) { return array.dtype() == mx::bfloat16; };
  return is(weights.embedding) && is(weights.head) && is(weights.norm) &&
         std::ranges::all_of(weights.layers, [&](const StepLayer& layer) {
           return is(layer.qkv) && is(layer.attention_out) && is(layer.gate_up) && is(layer.down) &&
                  (!layer.router || is(*layer.router));
         });
}

/// Adds a step's kernels to a stream, each after the one whose results it reads.
class Recorder {
 public:
  Recorder(mx::Stream stream) : stream_(stream), encoder_(mx::cu::get_command_encoder(stream)) {}

  struct Uses {
    std::initializer_list<const mx::array*> reads;
    std::initializer_list<const mx::array*> writes;
  };
  template <class Args>
  void add(const char* name, dim3 grid, int threads, unsigned shared, const Args& args, Uses uses) {
    note(uses);
    launch(encoder_,
           kernel(stream_, name, shared),
           grid,
           dim3{static_cast<unsigned>(threads), 1, 1},
           shared,
           args);
  }
  void note(Uses uses) {
    for (const mx::array* array : uses.reads) encoder_.set_input_array(*array);
    for (const mx::array* array : uses.writes) encoder_.set_output_array(*array);
  }
  [[nodiscard]] const mx::Stream& stream() const { return stream_; }
  [[nodiscard]] mx::cu::CommandEncoder& encoder() { return encoder_; }

 private:
  mx::Stream stream_;
  mx::cu::CommandEncoder& encoder_;
};

dim3 grid(int x, int y = 1) { return {static_cast<unsigned>(x), static_cast<unsigned>(y), 1}; }

}  // namespace

/// inputs: tokens, positions, slots, logits_at, the attention's three, then keys and values of each
/// layer's pool. Result: logits.
class Step : public mx::UnaryPrimitive {
 public:
  Step(mx::Stream stream,
       std::shared_ptr<const DecodeStep::State> state,
       std::shared_ptr<const AttentionPieces> pieces)
      : UnaryPrimitive(stream), state_(std::move(state)), pieces_(std::move(pieces)) {}

  void eval_gpu(const std::vector<mx::array>& inputs, mx::array& out) override {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    Recorder recorder(stream());
    const DecodeStep::State& state = *state_;
    const DecoderSpec& spec = state.spec;
    const StepWeights& weights = state.weights;
    const int tokens = inputs[0].shape(0);
    recorder.note({{&inputs[0], &inputs[1], &inputs[2], &inputs[3]}, {}});
    recorder.add("step_embed",
                 grid(tokens),
                 256,
                 0,
                 EmbedArgs{.tokens = device_data<const int>(inputs[0]),
                           .table = device_data<const void>(weights.embedding),
                           .norm = device_data<const void>(weights.layers[0].attention_norm),
                           .residual = device_data<float>(state.residual),
                           .out = device_data(state.normed),
                           .width = spec.hidden_size,
                           .scale = spec.embedding_scale,
                           .eps = spec.rms_norm_eps},
                 {{}, {&state.residual, &state.normed}});
    for (std::size_t i = 0; i < weights.layers.size(); ++i) {
      attend(recorder, i, inputs, tokens);
      const int splits = weights.layers[i].router ? experts(recorder, i, tokens)
                                                  : feed_forward(recorder, i, tokens);
      const bool last = i + 1 == weights.layers.size();
      add_norm(recorder,
               tokens,
               splits,
               last ? weights.norm : weights.layers[i + 1].attention_norm,
               last ? &inputs[3] : nullptr);
    }
    const int rows = inputs[3].shape(0);
    recorder.note({{&state.normed}, {&out}});
    product(recorder,
            false,
            grid(spec.vocab_size / kFeatureTile),
            rows,
            {.x = device_data<const void>(state.normed),
             .w = device_data<const void>(weights.head),
             .partials = device_data<float>(out),
             .tokens = rows,
             .features = spec.vocab_size,
             .inputs = spec.hidden_size,
             .tiles_per_split = spec.hidden_size / kInputTile});
  }
  void eval_cpu(const std::vector<mx::array>&, mx::array&) override {
    throw std::logic_error("an operation made for a GPU was given to the CPU");
  }
  const char* name() const override { return "mlxs::cuda::Step"; }

 private:
  static void product(
      Recorder& recorder, bool gated, dim3 blocks, int tokens, const ProductArgs& args) {
    const int tiles = tiles_of(tokens);
    const std::string name = fmt::format("step_{}_{}", gated ? "gated" : "product", tiles);
    recorder.add(name.c_str(), blocks, 128, product_shared_bytes(tiles), args, {});
  }

  /// partials = x·wᵀ in as many splits as fill the device; returns how many.
  int split_product(Recorder& recorder,
                    const mx::array& x,
                    const mx::array& w,
                    int features,
                    int inputs,
                    int tokens) {
    const Split split = split_of(features, inputs);
    recorder.note({{&x}, {&state_->partials}});
    product(recorder,
            false,
            grid(features / kFeatureTile, split.count),
            tokens,
            {.x = device_data<const void>(x),
             .w = device_data<const void>(w),
             .partials = device_data<float>(state_->partials),
             .tokens = tokens,
             .features = features,
             .inputs = inputs,
             .tiles_per_split = split.tiles});
    return split.count;
  }

  void add_norm(
      Recorder& recorder, int tokens, int splits, const mx::array& norm, const mx::array* rows) {
    const DecodeStep::State& state = *state_;
    recorder.add("step_add_norm",
                 grid(rows == nullptr ? tokens : rows->shape(0)),
                 1024,
                 0,
                 AddNormArgs{.partials = device_data<const float>(state.partials),
                             .residual = device_data<float>(state.residual),
                             .norm = device_data<const void>(norm),
                             .out = device_data(state.normed),
                             .rows = rows == nullptr ? nullptr : device_data<const int>(*rows),
                             .tokens = tokens,
                             .width = state.spec.hidden_size,
                             .splits = splits,
                             .eps = state.spec.rms_norm_eps},
                 {{&state.partials, &state.residual}, {&state.residual, &state.normed}});
  }

  void attend(Recorder& recorder, std::size_t i, const std::vector<mx::array>& inputs, int tokens) {
    const DecodeStep::State& state = *state_;
    const DecoderSpec& spec = state.spec;
    const StepLayer& layer = state.weights.layers[i];
    const AttentionSpec& attention = spec.layers[i].attention;
    const Rope& rope = state.ropes[static_cast<std::size_t>(attention.rope)];
    const mx::array& keys = inputs[7 + 2 * i];
    const mx::array& values = inputs[8 + 2 * i];
    const int all = spec.heads + 2 * spec.kv_heads;
    const int splits = split_product(
        recorder, state.normed, layer.qkv, all * spec.head_dim, spec.hidden_size, tokens);
    const auto& norms = layer.head_norms;
    recorder.add(
        "step_heads",
        grid((all + 3) / 4, tokens),
        128,
        0,
        HeadsArgs{.partials = device_data<const float>(state.partials),
                  .bias = layer.qkv_bias ? device_data<const void>(*layer.qkv_bias) : nullptr,
                  .query_norm = norms ? device_data<const void>(norms->query) : nullptr,
                  .key_norm = norms ? device_data<const void>(norms->key) : nullptr,
                  .freqs = device_data<const float>(rope.freqs),
                  .positions = device_data<const int>(inputs[1]),
                  .slots = device_data<const int>(inputs[2]),
                  .queries = device_data(state.queries),
                  .keys = device_data(keys),
                  .values = device_data(values),
                  .tokens = tokens,
                  .splits = splits,
                  .heads = spec.heads,
                  .kv_heads = spec.kv_heads,
                  .width = spec.head_dim,
                  .block_tokens = keys.shape(2),
                  .eps = spec.rms_norm_eps,
                  .rope_scale = rope.scale},
        {{&state.partials}, {&state.queries, &keys, &values}});
    const float scale = attention.scale * rope.magnitude * rope.magnitude;
    const mx::array queries = view(state.queries, {tokens, spec.heads, spec.head_dim});
    mx::array attended = view(state.attended, {tokens, spec.heads, spec.head_dim});
    record_attention(recorder.stream(),
                     queries,
                     {keys, values},
                     *pieces_,
                     {inputs[4], inputs[5], inputs[6]},
                     {scale, attention.window, attention.softcap},
                     attended);
    const int out_splits = split_product(recorder,
                                         state.attended,
                                         layer.attention_out,
                                         spec.hidden_size,
                                         spec.heads * spec.head_dim,
                                         tokens);
    add_norm(recorder, tokens, out_splits, layer.feed_forward_norm, nullptr);
  }

  int feed_forward(Recorder& recorder, std::size_t i, int tokens) {
    const DecodeStep::State& state = *state_;
    const StepLayer& layer = state.weights.layers[i];
    const int width = state.spec.layers[i].feed_forward.intermediate_size;
    const int hidden = state.spec.hidden_size;
    recorder.note({{&state.normed}, {&state.gated}});
    product(recorder,
            true,
            grid(2 * width / kFeatureTile, 1),
            tokens,
            {.x = device_data<const void>(state.normed),
             .w = device_data<const void>(layer.gate_up),
             .gated = device_data(state.gated),
             .tokens = tokens,
             .features = 2 * width,
             .inputs = hidden,
             .tiles_per_split = hidden / kInputTile});
    return split_product(recorder, state.gated, layer.down, hidden, width, tokens);
  }

  int experts(Recorder& recorder, std::size_t i, int tokens) {
    const DecodeStep::State& state = *state_;
    const StepLayer& layer = state.weights.layers[i];
    const FeedForwardSpec& block = state.spec.layers[i].feed_forward;
    const int hidden = state.spec.hidden_size;
    const int each = block.experts_per_token;
    const int splits =
        split_product(recorder, state.normed, *layer.router, block.experts, hidden, tokens);
    recorder.add("step_route",
                 grid(1),
                 1024,
                 0,
                 RouteArgs{.partials = device_data<const float>(state.partials),
                           .tokens = tokens,
                           .splits = splits,
                           .experts = block.experts,
                           .each = each,
                           .normalised = block.normalised_scores,
                           .shares = device_data<float>(state.shares),
                           .expert_begin = device_data<int>(state.expert_begin),
                           .expert_rows = device_data<int>(state.expert_rows)},
                 {{&state.partials}, {&state.shares, &state.expert_begin, &state.expert_rows}});
    // An expert is chosen by few of the tokens; when by more than a tile holds, its block repeats.
    const int tile_tokens = tokens <= 8 ? 8 : std::min(32, tokens);
    ProductArgs args{.x = device_data<const void>(state.normed),
                     .w = device_data<const void>(layer.gate_up),
                     .gated = device_data(state.gated),
                     .tokens = tokens,
                     .features = 2 * block.intermediate_size,
                     .inputs = hidden,
                     .expert_begin = device_data<const int>(state.expert_begin),
                     .expert_rows = device_data<const int>(state.expert_rows),
                     .each = each,
                     .x_by_row = false};
    recorder.note({{&state.normed, &state.expert_begin, &state.expert_rows}, {&state.gated}});
    product(recorder, true, grid(args.features / kFeatureTile, block.experts), tile_tokens, args);
    args.x = device_data<const void>(state.gated);
    args.w = device_data<const void>(layer.down);
    args.gated = nullptr;
    args.partials = device_data<float>(state.partials);
    args.shares = device_data<const float>(state.shares);
    args.features = hidden;
    args.inputs = block.intermediate_size;
    args.x_by_row = true;
    recorder.note({{&state.gated, &state.shares}, {&state.partials}});
    product(recorder, false, grid(hidden / kFeatureTile, block.experts), tile_tokens, args);
    return each;
  }

  /// The first elements of scratch in another shape.
  static mx::array view(const mx::array& scratch, mx::Shape shape) {
    mx::array made(shape, scratch.dtype(), nullptr, {});
    const mx::Strides strides{std::int64_t{shape[1]} * shape[2], shape[2], 1};
    made.copy_shared_buffer(
        scratch, strides, {true, true, false}, static_cast<std::size_t>(made.size()));
    return made;
  }

  std::shared_ptr<const DecodeStep::State> state_;
  std::shared_ptr<const AttentionPieces> pieces_;
};

DecodeStep::DecodeStep(std::shared_ptr<const State> state) : state_(std::move(state)) {}
DecodeStep::~DecodeStep() = default;

std::unique_ptr<DecodeStep> DecodeStep::make(const DecoderSpec& spec,
                                             const std::vector<Rope>& ropes,
                                             StepWeights weights) {
  const bool turns = std::ranges::none_of(ropes, [](const Rope& rope) { return rope.neighbours; });
  if (mx::default_device() != mx::Device::gpu || !turns || !fits(spec) || !dense(weights) ||
      !can_attention(mx::bfloat16, spec.heads, spec.kv_heads, spec.head_dim))
    return nullptr;
  std::size_t gated = 0;
  std::size_t rows = 0;
  std::size_t experts = 0;
  for (const LayerSpec& layer : spec.layers) {
    const FeedForwardSpec& block = layer.feed_forward;
    const auto each = static_cast<std::size_t>(std::max(1, block.experts_per_token));
    gated = std::max(gated, each * static_cast<std::size_t>(block.intermediate_size));
    rows = std::max(rows, each);
    experts = std::max(experts, static_cast<std::size_t>(block.experts) + 1);
  }
  // MLX's own products of experts are slow, so that ours pay for prompts too.
  const int tokens_max =
      weights.layers.front().router.has_value() ? kStepTokensMax : kDenseTokensMax;
  const auto tokens = static_cast<std::size_t>(tokens_max);
  const auto hidden = static_cast<std::size_t>(spec.hidden_size);
  const auto queries = static_cast<std::size_t>(spec.heads * spec.head_dim);
  return std::unique_ptr<DecodeStep>(new DecodeStep(std::make_shared<const State>(
      State{.spec = spec,
            .ropes = ropes,
            .weights = std::move(weights),
            .tokens_max = tokens_max,
            .residual = room(tokens * hidden, mx::float32),
            .normed = room(tokens * hidden, mx::bfloat16),
            .partials = room(tokens * partials_size(spec), mx::float32),
            .queries = room(tokens * queries, mx::bfloat16),
            .attended = room(tokens * queries, mx::bfloat16),
            .gated = room(tokens * gated, mx::bfloat16),
            .shares = room(tokens * rows, mx::float32),
            .expert_begin = room(experts, mx::int32),
            .expert_rows = room(tokens * rows, mx::int32)})));
}

bool DecodeStep::takes(const StepArrays& step) const {
  return step.tokens.shape(0) <= state_->tokens_max && step.logits_at.shape(0) > 0;
}

mx::array DecodeStep::operator()(const StepArrays& step, const std::vector<KvLayer>& pool) const {
  const DecoderSpec& spec = state_->spec;
  const auto pieces = attention_pieces(step.attention, spec.heads, spec.kv_heads);
  std::vector<mx::array> inputs{step.tokens,
                                step.positions,
                                step.slots,
                                step.logits_at,
                                pieces->pieces,
                                pieces->table,
                                pieces->merges};
  for (const KvLayer& layer : pool) {
    inputs.push_back(layer.keys);
    inputs.push_back(layer.values);
  }
  return mx::array({step.logits_at.shape(0), spec.vocab_size},
                   mx::float32,
                   std::make_shared<Step>(mx::default_stream(mx::Device::gpu), state_, pieces),
                   std::move(inputs));
}

}  // namespace mlxs::engine::cuda
