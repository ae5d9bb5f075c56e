// Qwen 3: qwen2 without biases, with a norm over each head of queries and keys. Follows mlx-lm's
// qwen3.py.

#include "engine/load/config_reader.h"
#include "engine/models/config_checks.h"
#include "engine/models/makers.h"
#include "engine/models/rope_config.h"
#include "engine/ops/gated_mlp.h"
#include "engine/ops/linear.h"
#include "engine/ops/norm.h"

#include <fmt/format.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

struct Args {
  int hidden_size, layers, intermediate_size, heads, kv_heads, head_dim, vocab_size;
  int context_tokens_max;
  float rms_norm_eps;
  bool tied;
  RopeArgs rope;
};

Result<Args> read_args(const Checkpoint& checkpoint) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  Args args{};
  args.hidden_size = config.count("hidden_size");
  args.layers = config.count("num_hidden_layers");
  args.intermediate_size = config.count("intermediate_size");
  args.heads = config.count("num_attention_heads");
  args.kv_heads = config.count("num_key_value_heads", args.heads);
  args.head_dim = config.count("head_dim", std::max(1, args.hidden_size / args.heads));
  args.vocab_size = config.count("vocab_size");
  args.context_tokens_max = config.count("max_position_embeddings", 32768);
  args.rms_norm_eps = static_cast<float>(config.number("rms_norm_eps"));
  args.tied = config.boolean("tie_word_embeddings", !checkpoint.tensors.contains("lm_head.weight"));
  args.rope = read_rope_args(config, checkpoint.config_file);
  check_llama_like(config, checkpoint.config, args.heads, args.kv_heads, args.head_dim);
  MLXS_TRY(config.status());
  return args;
}

class Attention {
 public:
  Attention(const Args& args, const Rope& rope, const std::string& prefix, WeightReader& weights)
      : args_(args),
        rope_(rope),
        qkv_(weights.matrix(qkv_parts(args, prefix), args.hidden_size)),
        output_(
            weights.matrix({{prefix + "o_proj", args.hidden_size}}, args.heads * args.head_dim)),
        q_norm_(weights.vector(prefix + "q_norm.weight", args.head_dim)),
        k_norm_(weights.vector(prefix + "k_norm.weight", args.head_dim)) {}

  mx::array operator()(const mx::array& x, const StepArrays& step, KvLayer& pool) const {
    const int tokens = x.shape(0);
    const int turned = args_.heads + args_.kv_heads;
    const mx::array qkv =
        mx::reshape(linear(x, qkv_), {tokens, turned + args_.kv_heads, args_.head_dim});
    const float eps = args_.rms_norm_eps;
    const mx::array queries =
        rope(rms_norm(heads(qkv, 0, args_.heads), q_norm_, eps), rope_, step.positions);
    const mx::array keys =
        rope(rms_norm(heads(qkv, args_.heads, turned), k_norm_, eps), rope_, step.positions);
    const mx::array values = heads(qkv, turned, turned + args_.kv_heads);
    pool = kv_append(pool, keys, values, step.slots);
    const AttentionParams params{1.0f / std::sqrt(static_cast<float>(args_.head_dim))};
    const mx::array out = attention(queries, pool, step.attention, params);
    return linear(mx::reshape(out, {tokens, args_.heads * args_.head_dim}), output_);
  }

 private:
  static std::vector<WeightReader::Part> qkv_parts(const Args& args, const std::string& prefix) {
    return {{prefix + "q_proj", args.heads * args.head_dim},
            {prefix + "k_proj", args.kv_heads * args.head_dim},
            {prefix + "v_proj", args.kv_heads * args.head_dim}};
  }
  static mx::array heads(const mx::array& x, int first, int last) {
    return mx::slice(x, {0, first, 0}, {x.shape(0), last, x.shape(2)});
  }

  const Args& args_;
  const Rope& rope_;
  Weight qkv_;
  Weight output_;
  mx::array q_norm_;
  mx::array k_norm_;
};

class Mlp {
 public:
  Mlp(const Args& args, const std::string& prefix, WeightReader& weights)
      : gate_up_(weights.matrix({{prefix + "gate_proj", args.intermediate_size},
                                 {prefix + "up_proj", args.intermediate_size}},
                                args.hidden_size)),
        down_(weights.matrix({{prefix + "down_proj", args.hidden_size}}, args.intermediate_size)) {}

  mx::array operator()(const mx::array& x) const { return gated_mlp(x, gate_up_, down_); }

 private:
  Weight gate_up_;
  Weight down_;
};

class Block {
 public:
  Block(const Args& args, const Rope& rope, const std::string& prefix, WeightReader& weights)
      : eps_(args.rms_norm_eps),
        attention_(args, rope, prefix + "self_attn.", weights),
        mlp_(args, prefix + "mlp.", weights),
        attention_norm_(weights.vector(prefix + "input_layernorm.weight", args.hidden_size)),
        mlp_norm_(weights.vector(prefix + "post_attention_layernorm.weight", args.hidden_size)) {}

  mx::array operator()(const mx::array& x, const StepArrays& step, KvLayer& pool) const {
    const mx::array h = mx::add(x, attention_(rms_norm(x, attention_norm_, eps_), step, pool));
    return mx::add(h, mlp_(rms_norm(h, mlp_norm_, eps_)));
  }

 private:
  float eps_;
  Attention attention_;
  Mlp mlp_;
  mx::array attention_norm_;
  mx::array mlp_norm_;
};

class Qwen3 : public Model {
 public:
  Qwen3(const Args& args, WeightReader& weights)
      : args_(args),
        shape_{args.layers, args.kv_heads, args.head_dim, args.vocab_size, args.context_tokens_max},
        rope_(make_rope(args.rope, args.head_dim, weights)),
        embedding_(weights.matrix({{"model.embed_tokens", args.vocab_size}}, args.hidden_size)),
        norm_(weights.vector("model.norm.weight", args.hidden_size)) {
    for (int i = 0; i < args.layers && !weights.failed(); ++i) {
      blocks_.emplace_back(args_, rope_, fmt::format("model.layers.{}.", i), weights);
    }
    if (args.tied) {
      weights.ignore("lm_head.weight");  // Some exporters write the shared matrix twice.
    } else {
      head_ = weights.matrix({{"lm_head", args.vocab_size}}, args.hidden_size);
    }
  }

  const ModelShape& shape() const override { return shape_; }

  mx::array forward(const StepArrays& step, std::vector<KvLayer>& pool) const override {
    mx::array x = embedding(step.tokens, embedding_);
    for (std::size_t i = 0; i < blocks_.size(); ++i) x = blocks_[i](x, step, pool[i]);
    x = rms_norm(mx::take(x, step.logits_at, 0), norm_, args_.rms_norm_eps);
    return mx::astype(linear(x, head_ ? *head_ : embedding_), mx::float32);
  }

 private:
  const Args args_;
  const ModelShape shape_;
  const Rope rope_;
  Weight embedding_;
  mx::array norm_;
  std::vector<Block> blocks_;
  std::optional<Weight> head_;
};

}  // namespace

Result<std::unique_ptr<Model>> make_qwen3(const Checkpoint& checkpoint, WeightReader& weights) {
  auto args = read_args(checkpoint);
  if (!args) return args.error();
  return std::unique_ptr<Model>(std::make_unique<Qwen3>(*args, weights));
}

}  // namespace mlxs::engine
