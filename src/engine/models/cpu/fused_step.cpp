#include "engine/models/cpu/fused_step.h"

#include "base/assert.h"
#include "engine/models/decoder.h"
#include "engine/ops/attention_cpu.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu_op.h"
#include "engine/ops/parallel.h"
#include "engine/ops/product.h"
#include "engine/ops/rope_row.h"
#include "engine/ops/row_kernels.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

namespace mlxs::engine::cpu {

namespace mx = mlx::core;

namespace {

constexpr int kHeadUnit = 16;  // What attention's kernels take together.
// Of work between products, in elements of some 0.3 ns, a piece has at least this many.
constexpr std::int64_t kPieceElementsMin = 1 << 14;

using Matrices = std::vector<std::shared_ptr<const PackedMatrix>>;

/// A product and whether it reads codes.
struct Product {
  Matrices weights;
  int rows = 0;
  int columns = 0;
  bool encoded = false;
};

std::optional<Product> product_of(const std::vector<Weight>& weights) {
  Product product;
  for (const Weight& weight : weights) {
    if (!weight.packed) return std::nullopt;
    product.rows += weight.packed->rows();
    product.columns = weight.packed->columns();
    product.encoded = product.encoded || weight.packed->view().affine();
    product.weights.push_back(weight.packed);
  }
  return product;
}

/// Vectors of a layer; null where it has none.
struct LayerVectors {
  const float* attention_norm = nullptr;
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  const float* qkv_bias = nullptr;
  const float* output_bias = nullptr;
  const float* attention_output_norm = nullptr;
  const float* feed_forward_norm = nullptr;
  const float* gate_up_bias = nullptr;
  const float* down_bias = nullptr;
  const float* feed_forward_output_norm = nullptr;
};

struct Layer {
  LayerVectors vectors;
  Product qkv, output, gate_up, down;
};

/// A layer's part of the pool, laid out as `AttentionJob` says, and what of it the step writes and
/// reads.
struct Pool {
  void* keys;
  void* values;
  bool halves;
  int kv_heads, block_tokens, width;
  const std::int32_t* slots;
  const AttentionPieces* attention;

  /// Writes a token's key, whose width is a multiple of 16; `spare` has room for it.
  void put_key(std::int32_t slot, int head, const float* key, float* spare) const {
    if (!halves) {
      std::copy_n(key, width, at<float>(keys, slot, head));
      return;
    }
    auto* const narrow = reinterpret_cast<std::uint16_t*>(spare);
    product_kernels().attention->to_half(key, width, narrow);
    std::uint16_t* const column =
        at<std::uint16_t>(keys, slot / block_tokens * block_tokens, head) + slot % block_tokens;
    for (int i = 0; i < width; ++i) column[i * block_tokens] = narrow[i];
  }
  void put_value(std::int32_t slot, int head, const float* value) const {
    if (halves) {
      product_kernels().attention->to_half(value, width, at<std::uint16_t>(values, slot, head));
    } else {
      std::copy_n(value, width, at<float>(values, slot, head));
    }
  }

 private:
  template <class T>
  [[nodiscard]] T* at(void* pool, std::int32_t slot, int head) const {
    const std::int64_t matrix = std::int64_t{slot / block_tokens} * kv_heads + head;
    return static_cast<T*>(pool) + (matrix * block_tokens + slot % block_tokens) * width;
  }
};

void add_row(const float* x, int width, float* to) {
  for (int i = 0; i < width; ++i) to[i] += x[i];
}

/// Calls work(t) for every token, in parallel where that pays.
template <class Work>
void for_tokens(int tokens, std::int64_t elements, const Work& work) {
  const std::int64_t worth = tokens * elements / kPieceElementsMin;
  const auto pieces = static_cast<int>(
      std::min({worth, std::int64_t{tokens}, std::int64_t{2} * compute_threads()}));
  if (pieces <= 1) {
    for (int t = 0; t < tokens; ++t) work(t);
    return;
  }
  parallel_for(pieces, [&](int i) {
    const auto edge = [&](int piece) {
      return static_cast<int>(std::int64_t{tokens} * piece / pieces);
    };
    for (int t = edge(i); t < edge(i + 1); ++t) work(t);
  });
}

}  // namespace

class FusedStep::State {
 public:
  State(const DecoderSpec& spec, const std::vector<Rope>& ropes) : spec_(spec), ropes_(ropes) {
    for (const Rope& rope : ropes_) keep(rope.freqs);
  }

  /// Whether there is a case for all of it.
  bool take(const Weight& embedding,
            const std::vector<DecoderLayer>& layers,
            const mx::array& norm,
            const Weight& head) {
    auto last = product_of({head});
    if (!embedding.packed || !last || spec_.head_dim % kHeadUnit != 0) return false;
    embedding_ = embedding.packed;
    input_.use_eight_bits(embedding_->view().eight_bits);
    head_ = std::move(*last);
    norm_ = keep(norm);
    for (const DecoderLayer& layer : layers) {
      if (!take(layer)) return false;
    }
    return true;
  }

  /// Makes room for a step: nothing is allocated while it is computed.
  void reserve(int tokens, int rows) {
    int columns = std::max(spec_.hidden_size, spec_.heads * spec_.head_dim);
    int wide = std::max(columns, (spec_.heads + 2 * spec_.kv_heads) * spec_.head_dim);
    for (const Layer& layer : layers_) {
      columns = std::max(columns, layer.down.columns);
      wide = std::max(wide, layer.gate_up.rows);
    }
    input_.start(tokens, columns, true);
    attended_.start(tokens, spec_.heads * spec_.head_dim, false);
    const auto floats = [](LineMemory& memory, std::int64_t count) {
      return reinterpret_cast<float*>(
          memory.reserve(static_cast<std::size_t>(count) * sizeof(float)));
    };
    hidden_ = floats(hidden_memory_, std::int64_t{tokens + rows} * spec_.hidden_size);
    wide_ = floats(wide_memory_, std::int64_t{tokens} * wide);
    angles_ = floats(angles_memory_, std::ssize(ropes_) * tokens * spec_.head_dim);
  }

  [[nodiscard]] const DecoderSpec& spec() const { return spec_; }

  struct Step {
    const std::int32_t* tokens;
    const std::int32_t* positions;
    const std::int32_t* logits_at;
    int count, rows;
    const std::vector<Pool>& pools;
  };

  void run(const Step& step, float* logits) {
    int tokens = step.count;
    float* hidden = hidden_;
    begin(step);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      const bool last = i + 1 == layers_.size();
      enter(layer.qkv, hidden, tokens, layer.vectors.attention_norm);
      multiply(input_, layer.qkv.weights, wide_);
      split_heads(i, step);
      if (last && step.rows == 0) return;
      attend(i, step);
      if (last) {
        // Behind the last keys and values, only tokens that somebody asked about matter.
        hidden = pick(step);
        tokens = step.rows;
        attended_to_input(layer.output, tokens, step.logits_at);
      } else {
        attended_to_input(layer.output, tokens, nullptr);
      }
      multiply(input_, layer.output.weights, wide_);
      leave(layer.vectors.output_bias, layer.vectors.attention_output_norm, hidden, tokens);
      enter(layer.gate_up, hidden, tokens, layer.vectors.feed_forward_norm);
      multiply(input_, layer.gate_up.weights, wide_);
      gate(i, tokens);
      multiply(input_, layer.down.weights, wide_);
      leave(layer.vectors.down_bias, layer.vectors.feed_forward_output_norm, hidden, tokens);
    }
    enter(head_, hidden, tokens, norm_);
    multiply(input_, head_.weights, logits);
    if (spec_.logit_softcap == 0) return;
    for_tokens(tokens, std::int64_t{4} * spec_.vocab_size, [&](int t) {
      softcap_row(
          logits + std::int64_t{t} * spec_.vocab_size, spec_.vocab_size, spec_.logit_softcap);
    });
  }

 private:
  /// Its numbers, for as long as this lives.
  const float* keep(const mx::array& array) {
    mx::array kept = mx::contiguous(array);
    mx::eval(kept);
    kept_.push_back(kept);
    return kept.data<float>();
  }
  const float* keep(const std::optional<mx::array>& array) {
    return array ? keep(*array) : nullptr;
  }

  bool take(const DecoderLayer& layer) {
    const auto* mlp = std::get_if<GatedMlp>(&layer.feed_forward());
    if (mlp == nullptr) return false;
    const SelfAttention& attention = layer.attention();
    auto qkv = product_of(attention.qkv());
    auto output = product_of({attention.output()});
    auto gate_up = product_of(mlp->gate_up());
    auto down = product_of({mlp->down()});
    if (!qkv || !output || !gate_up || !down) return false;
    LayerVectors vectors{.attention_norm = keep(layer.attention_norm()),
                         .qkv_bias = keep(attention.qkv_bias()),
                         .output_bias = keep(attention.output_bias()),
                         .attention_output_norm = keep(layer.attention_output_norm()),
                         .feed_forward_norm = keep(layer.feed_forward_norm()),
                         .gate_up_bias = keep(mlp->gate_up_bias()),
                         .down_bias = keep(mlp->down_bias()),
                         .feed_forward_output_norm = keep(layer.feed_forward_output_norm())};
    if (const auto& norms = attention.norms()) {
      vectors.query_norm = keep(norms->query);
      vectors.key_norm = keep(norms->key);
    }
    layers_.push_back(
        {vectors, std::move(*qkv), std::move(*output), std::move(*gate_up), std::move(*down)});
    return true;
  }

  [[nodiscard]] float* wide(int token, int width) const {
    return wide_ + std::int64_t{token} * width;
  }
  /// Cosines and sines of a token's position.
  [[nodiscard]] float* angles(std::size_t rope, int token, int tokens) const {
    return angles_ + (static_cast<std::int64_t>(rope) * tokens + token) * spec_.head_dim;
  }

  /// Embeddings, and the angles that every layer turns by.
  void begin(const Step& step) {
    const int width = spec_.hidden_size;
    constexpr int kAngleCost = 40;
    for_tokens(step.count, width + spec_.head_dim * kAngleCost, [&](int t) {
      float* const row = hidden_ + std::int64_t{t} * width;
      embedding_->unpack_row(step.tokens[t], row);
      for (int i = 0; i < width && spec_.embedding_scale != 1; ++i) {
        row[i] *= spec_.embedding_scale;
      }
      for (std::size_t r = 0; r < ropes_.size(); ++r) {
        rope_angles(ropes_[r].freqs.data<float>(),
                    spec_.head_dim,
                    ropes_[r].scale,
                    step.positions[t],
                    angles(r, t, step.count));
      }
    });
  }

  /// Normed tokens into a product.
  void enter(const Product& product, const float* hidden, int tokens, const float* norm) {
    const int width = spec_.hidden_size;
    input_.start(tokens, width, product.encoded);
    for_tokens(tokens, std::int64_t{3} * width, [&](int t) {
      rms_norm_row(
          hidden + std::int64_t{t} * width, norm, width, spec_.rms_norm_eps, input_.row(t));
      input_.finish(t);
    });
  }

  /// A product's result onto the residual.
  void leave(const float* bias, const float* norm, float* hidden, int tokens) {
    const int width = spec_.hidden_size;
    for_tokens(tokens, std::int64_t{norm == nullptr ? 1 : 3} * width, [&](int t) {
      float* const row = wide(t, width);
      if (bias != nullptr) add_row(bias, width, row);
      if (norm != nullptr) rms_norm_row(row, norm, width, spec_.rms_norm_eps, row);
      add_row(row, width, hidden + std::int64_t{t} * width);
    });
  }

  /// Turns queries where they are, and writes keys and values to the pool.
  void split_heads(std::size_t i, const Step& step) {
    const LayerVectors& vectors = layers_[i].vectors;
    const auto rope = static_cast<std::size_t>(spec_.layers[i].attention.rope);
    const auto turn = ropes_[rope].neighbours ? rope_head_of_neighbours : rope_head;
    const int width = spec_.head_dim;
    const int turned = spec_.heads + spec_.kv_heads;
    const int all = (turned + spec_.kv_heads) * width;
    const Pool& pool = step.pools[i];
    attended_.start(step.count, spec_.heads * width, false);
    for_tokens(step.count, std::int64_t{2} * all, [&](int t) {
      float* const row = wide(t, all);
      if (vectors.qkv_bias != nullptr) add_row(vectors.qkv_bias, all, row);
      const float* const cosines = angles(rope, t, step.count);
      const float* const sines = cosines + width / 2;
      float* const spare = attended_.row(t);
      for (int h = 0; h < turned; ++h) {
        float* const head = row + h * width;
        const float* const norm = h < spec_.heads ? vectors.query_norm : vectors.key_norm;
        if (norm != nullptr) rms_norm_row(head, norm, width, spec_.rms_norm_eps, head);
        std::copy_n(head, width, spare);
        turn(spare, cosines, sines, width / 2, head);
        if (h >= spec_.heads) pool.put_key(pool.slots[t], h - spec_.heads, head, spare);
      }
      for (int h = 0; h < spec_.kv_heads; ++h) {
        pool.put_value(pool.slots[t], h, row + (turned + h) * width);
      }
    });
  }

  void attend(std::size_t i, const Step& step) {
    const AttentionSpec& attention = spec_.layers[i].attention;
    const Rope& rope = ropes_[static_cast<std::size_t>(attention.rope)];
    const int width = spec_.head_dim;
    engine::attend({.q = wide_,
                    .keys = step.pools[i].keys,
                    .values = step.pools[i].values,
                    .halves = step.pools[i].halves,
                    .out = attended_.row(0),
                    .q_token_stride = std::int64_t{spec_.heads + 2 * spec_.kv_heads} * width,
                    .q_head_stride = width,
                    .heads = spec_.heads,
                    .kv_heads = spec_.kv_heads,
                    .head_dim = width,
                    .block_tokens = step.pools[i].block_tokens,
                    .params = {attention.scale * rope.magnitude * rope.magnitude,
                               attention.window,
                               attention.softcap}},
                   *step.pools[i].attention);
  }

  /// `which`: of the step's tokens, or null for all.
  void attended_to_input(const Product& product, int tokens, const std::int32_t* which) {
    input_.start(tokens, product.columns, product.encoded);
    for_tokens(tokens, std::int64_t{2} * product.columns, [&](int t) {
      const float* const from = attended_.row(which == nullptr ? t : which[t]);
      std::copy_n(from, product.columns, input_.row(t));
      input_.finish(t);
    });
  }

  /// The residuals of the tokens that logits are asked of, behind all others.
  float* pick(const Step& step) const {
    const int width = spec_.hidden_size;
    float* const picked = hidden_ + std::int64_t{step.count} * width;
    for (int i = 0; i < step.rows; ++i) {
      std::copy_n(hidden_ + std::int64_t{step.logits_at[i]} * width,
                  width,
                  picked + std::int64_t{i} * width);
    }
    return picked;
  }

  void gate(std::size_t i, int tokens) {
    const Layer& layer = layers_[i];
    const int width = layer.down.columns;
    const Activation activation = spec_.layers[i].feed_forward.activation;
    auto* const kernel = activation == Activation::kSilu ? silu_gate_row : gelu_tanh_gate_row;
    const float* const bias = layer.vectors.gate_up_bias;
    input_.start(tokens, width, layer.down.encoded);
    for_tokens(tokens, std::int64_t{5} * width, [&](int t) {
      float* const row = wide(t, 2 * width);
      if (bias != nullptr) add_row(bias, 2 * width, row);
      kernel(row, row + width, width, input_.row(t));
      input_.finish(t);
    });
  }

  const DecoderSpec& spec_;
  const std::vector<Rope> ropes_;
  std::vector<mx::array> kept_;
  std::shared_ptr<const PackedMatrix> embedding_;
  std::vector<Layer> layers_;
  const float* norm_ = nullptr;
  Product head_;

  ProductInput input_;     ///< Of the product at hand.
  ProductInput attended_;  ///< [T, heads·head_dim]
  LineMemory hidden_memory_, wide_memory_, angles_memory_;
  float* hidden_ = nullptr;  ///< The residual [T, hidden_size], and room for the last layer's rows.
  float* wide_ = nullptr;    ///< A product's result.
  float* angles_ = nullptr;  ///< [ropes, T, head_dim]: cosines, then sines.
};

namespace {

/// Block tables of layers that see one window, or of those without.
struct Tables {
  std::shared_ptr<const AttentionPlan> plan;
  std::shared_ptr<const AttentionPieces> pieces;
};

/// inputs: tokens, positions, logits_at, the slots of every entry of `tables`, then keys and values
/// of every layer.
struct StepKernel {
  std::shared_ptr<FusedStep::State> state;
  std::vector<Tables> tables;
  std::vector<std::size_t> table_of;  ///< By layer.
  bool halves;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    constexpr std::size_t kFirstSlots = 3;
    std::vector<Pool> pools;
    for (std::size_t i = kFirstSlots + tables.size(); i < inputs.size(); i += 2) {
      const std::size_t table = table_of[pools.size()];
      // Written in place: that is what the pool is for (`kv_append`).
      pools.push_back({.keys = const_cast<void*>(inputs[i].data),
                       .values = const_cast<void*>(inputs[i + 1].data),
                       .halves = halves,
                       .kv_heads = inputs[i].shape[1],
                       .block_tokens = inputs[i].shape[2],
                       .width = inputs[i].shape[3],
                       .slots = inputs[kFirstSlots + table].as<std::int32_t>(),
                       .attention = tables[table].pieces.get()});
    }
    state->run({.tokens = inputs[0].as<std::int32_t>(),
                .positions = inputs[1].as<std::int32_t>(),
                .logits_at = inputs[2].as<std::int32_t>(),
                .count = inputs[0].shape[0],
                .rows = inputs[2].shape[0],
                .pools = pools},
               out);
  }
};

}  // namespace

FusedStep::FusedStep(std::shared_ptr<State> state) : state_(std::move(state)) {}
FusedStep::~FusedStep() = default;

std::unique_ptr<FusedStep> FusedStep::make(const DecoderSpec& spec,
                                           const std::vector<Rope>& ropes,
                                           const Weight& embedding,
                                           const std::vector<DecoderLayer>& layers,
                                           const mx::array& norm,
                                           const Weight& head) {
  if (mx::default_device() != mx::Device::cpu) return nullptr;
  auto state = std::make_shared<State>(spec, ropes);
  if (!state->take(embedding, layers, norm, head)) return nullptr;
  return std::unique_ptr<FusedStep>(new FusedStep(std::move(state)));
}

mx::array FusedStep::operator()(const StepArrays& step,
                                const std::vector<KvLayer>& pool,
                                const std::vector<int>& window_of) const {
  const DecoderSpec& spec = state_->spec();
  const int rows = step.logits_at.shape(0);
  state_->reserve(step.tokens.shape(0), rows);
  const mx::array& keys = pool.front().keys;
  const bool halves = keys.dtype() == mx::float16;
  MLXS_ASSERT(halves ? keys.shape(2) == kKeyBlock : keys.dtype() == mx::float32);
  StepKernel kernel{.state = state_, .tables = {}, .table_of = {}, .halves = halves};
  std::vector<mx::array> inputs{step.tokens, step.positions, step.logits_at};
  for (int window = 0; window <= static_cast<int>(step.windows.size()); ++window) {
    const StepArrays& arrays = step.of(window);
    inputs.push_back(arrays.slots);
    kernel.tables.push_back(
        {arrays.attention, attention_pieces(arrays.attention, spec.heads, spec.kv_heads)});
  }
  for (std::size_t i = 0; i < pool.size(); ++i) {
    inputs.push_back(pool[i].keys);
    inputs.push_back(pool[i].values);
    kernel.table_of.push_back(step.windows.empty() ? 0 : static_cast<std::size_t>(window_of[i]));
  }
  return cpu_op("mlxs::FusedStep", {rows, spec.vocab_size}, std::move(inputs), std::move(kernel));
}

}  // namespace mlxs::engine::cpu
