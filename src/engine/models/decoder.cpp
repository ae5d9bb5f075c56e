#include "engine/models/decoder.h"

#include "engine/ops/linear.h"
#include "engine/ops/norm.h"

#include <fmt/format.h>
#include <mlx/ops.h>

#include <cstddef>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

DecoderLayer::DecoderLayer(const DecoderSpec& decoder,
                           const LayerSpec& spec,
                           const Rope& rope,
                           const std::string& prefix,
                           WeightReader& weights)
    : eps_(decoder.rms_norm_eps),
      attention_(decoder, spec.attention, rope, prefix + "self_attn.", weights),
      feed_forward_(spec.feed_forward, decoder.hidden_size, prefix + "mlp.", weights),
      attention_norm_(weights.vector(prefix + "input_layernorm.weight", decoder.hidden_size)),
      feed_forward_norm_(
          weights.vector(prefix + "post_attention_layernorm.weight", decoder.hidden_size)) {}

mx::array DecoderLayer::operator()(const mx::array& x,
                                   const StepArrays& step,
                                   KvLayer& pool) const {
  const mx::array h = mx::add(x, attention_(rms_norm(x, attention_norm_, eps_), step, pool));
  return mx::add(h, feed_forward_(rms_norm(h, feed_forward_norm_, eps_)));
}

Decoder::Decoder(DecoderSpec spec, WeightReader& weights)
    : spec_(std::move(spec)),
      shape_{.layers = static_cast<int>(spec_.layers.size()),
             .kv_heads = spec_.kv_heads,
             .head_dim = spec_.head_dim,
             .vocab_size = spec_.vocab_size,
             .context_tokens_max = spec_.context_tokens_max},
      embedding_(weights.matrix({{"model.embed_tokens", spec_.vocab_size}}, spec_.hidden_size)),
      norm_(weights.vector("model.norm.weight", spec_.hidden_size)) {
  for (const RopeArgs& rope : spec_.ropes) {
    ropes_.push_back(make_rope(rope, spec_.head_dim, weights));
  }
  for (std::size_t i = 0; i < spec_.layers.size() && !weights.failed(); ++i) {
    const LayerSpec& layer = spec_.layers[i];
    const Rope& rope = ropes_[static_cast<std::size_t>(layer.attention.rope)];
    layers_.emplace_back(spec_, layer, rope, fmt::format("model.layers.{}.", i), weights);
  }
  if (spec_.tied) {
    weights.ignore("lm_head.weight");  // Some exporters write the shared matrix twice.
  } else {
    head_ = weights.matrix({{"lm_head", spec_.vocab_size}}, spec_.hidden_size);
  }
}

mx::array Decoder::forward(const StepArrays& step, std::vector<KvLayer>& pool) const {
  mx::array x = embedding(step.tokens, embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) x = layers_[i](x, step, pool[i]);
  x = rms_norm(mx::take(x, step.logits_at, 0), norm_, spec_.rms_norm_eps);
  return mx::astype(linear(x, head_ ? *head_ : embedding_), mx::float32);
}

Result<std::unique_ptr<Model>> make_decoder(const ConfigReader& config,
                                            DecoderSpec spec,
                                            WeightReader& weights) {
  MLXS_TRY(config.status());
  return std::unique_ptr<Model>(std::make_unique<Decoder>(std::move(spec), weights));
}

}  // namespace mlxs::engine
