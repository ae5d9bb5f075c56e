#include "engine/models/decoder.h"

#include "engine/ops/linear.h"
#include "engine/ops/norm.h"

#include <fmt/format.h>
#include <mlx/ops.h>

#include <cstddef>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <variant>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

mx::array norm(const DecoderSpec& decoder, const std::string& name, WeightReader& weights) {
  return read_norm(decoder, name + ".weight", decoder.hidden_size, weights);
}

/// x + y. Gemma's sums leave float16's range, where Apple's and Google's code both hold them at its
/// ends.
mx::array residual(const mx::array& x, const mx::array& y) {
  if (x.dtype() != mx::float16) return mx::add(x, y);
  const mx::array bound(65504.0f);
  const mx::array sum = mx::add(mx::astype(x, mx::float32), mx::astype(y, mx::float32));
  return mx::astype(mx::clip(sum, mx::negative(bound), bound), mx::float16);
}

#ifdef MLXS_CUDA
/// Null where a layer's weights are of several forms.
std::unique_ptr<cuda::DecodeStep> make_decode_step(const DecoderSpec& spec,
                                                   const std::vector<Rope>& ropes,
                                                   const Weight& embedding,
                                                   const std::vector<DecoderLayer>& layers,
                                                   const mx::array& last_norm,
                                                   const Weight& head) {
  std::vector<cuda::StepLayer> step;
  for (const DecoderLayer& layer : layers) {
    const SelfAttention& attention = layer.attention();
    const auto* mlp = std::get_if<GatedMlp>(&layer.feed_forward());
    const auto* experts = std::get_if<ExpertMlp>(&layer.feed_forward());
    const auto& gate_up = mlp != nullptr ? mlp->gate_up() : experts->gate_up();
    if (attention.qkv().size() != 1 || gate_up.size() != 1) return nullptr;
    if (experts != nullptr && experts->down().size() != 1) return nullptr;
    step.push_back(
        {.attention_norm = layer.attention_norm(),
         .qkv = attention.qkv().front().data,
         .qkv_bias = attention.qkv_bias(),
         .head_norms = attention.norms(),
         .attention_out = attention.output().data,
         .feed_forward_norm = layer.feed_forward_norm(),
         .router = experts == nullptr ? std::nullopt : std::optional(experts->router().data),
         .gate_up = gate_up.front().data,
         .down = mlp != nullptr ? mlp->down().data : experts->down().front().data});
  }
  return cuda::DecodeStep::make(
      spec, ropes, {embedding.data, std::move(step), last_norm, head.data});
}
#endif

}  // namespace

DecoderLayer::DecoderLayer(const DecoderSpec& decoder,
                           const LayerSpec& spec,
                           const Rope& rope,
                           const std::string& prefix,
                           WeightReader& weights)
    : eps_(decoder.rms_norm_eps),
      attention_(decoder, spec.attention, rope, prefix + "self_attn.", weights),
      feed_forward_(
          make_feed_forward(spec.feed_forward, decoder.hidden_size, prefix + "mlp.", weights)),
      attention_norm_(norm(decoder, prefix + "input_layernorm", weights)),
      feed_forward_norm_(norm(
          decoder,
          prefix + (spec.output_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm"),
          weights)) {
  if (!spec.output_norms) return;
  attention_output_norm_ = norm(decoder, prefix + "post_attention_layernorm", weights);
  feed_forward_output_norm_ = norm(decoder, prefix + "post_feedforward_layernorm", weights);
}

mx::array DecoderLayer::operator()(const mx::array& x,
                                   const StepArrays& step,
                                   KvLayer& pool) const {
  const auto feed_forward = [this](const mx::array& input) {
    return std::visit([&](const auto& block) { return block(input); }, feed_forward_);
  };
  const mx::array attended = attention_(rms_norm(x, attention_norm_, eps_), step, pool);
  if (!attention_output_norm_) {
    const mx::array h = mx::add(x, attended);
    return mx::add(h, feed_forward(rms_norm(h, feed_forward_norm_, eps_)));
  }
  const mx::array h = residual(x, rms_norm(attended, *attention_output_norm_, eps_));
  const mx::array out = feed_forward(rms_norm(h, feed_forward_norm_, eps_));
  return residual(h, rms_norm(out, *feed_forward_output_norm_, eps_));
}

Decoder::Decoder(DecoderSpec spec, WeightReader& weights)
    : spec_(std::move(spec)),
      shape_{.layers = static_cast<int>(spec_.layers.size()),
             .kv_heads = spec_.kv_heads,
             .head_dim = spec_.head_dim,
             .vocab_size = spec_.vocab_size,
             .context_tokens_max = spec_.context_tokens_max,
             .windows = {},
             .window_of = {},
             .kv_dtype = weights.dtype()},
      dtype_(weights.dtype()),
      embedding_(weights.matrix({"model.embed_tokens", spec_.vocab_size}, spec_.hidden_size)),
      norm_(norm(spec_, "model.norm", weights)) {
  std::set<int> windows;
  for (const LayerSpec& layer : spec_.layers)
    if (layer.attention.window != 0) windows.insert(layer.attention.window);
  shape_.windows.assign(windows.begin(), windows.end());
  for (const LayerSpec& layer : spec_.layers) {
    const auto found = windows.find(layer.attention.window);
    shape_.window_of.push_back(
        found == windows.end() ? 0 : 1 + static_cast<int>(std::distance(windows.begin(), found)));
  }
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
    head_ = weights.matrix({"lm_head", spec_.vocab_size}, spec_.hidden_size);
  }
  if (weights.failed()) return;
  fused_step_ =
      cpu::FusedStep::make(spec_, ropes_, embedding_, layers_, norm_, head_ ? *head_ : embedding_);
  if (fused_step_) shape_.kv_dtype = mx::float16;
#ifdef MLXS_CUDA
  decode_step_ =
      make_decode_step(spec_, ropes_, embedding_, layers_, norm_, head_ ? *head_ : embedding_);
#endif
}

mx::array Decoder::forward(const StepArrays& step, std::vector<KvLayer>& pool) const {
#ifdef MLXS_CUDA
  if (decode_step_ && decode_step_->takes(step)) return (*decode_step_)(step, pool);
#endif
  if (fused_step_) return (*fused_step_)(step, pool, shape_.window_of);
  return forward_by_layers(step, pool);
}

mx::array Decoder::forward_by_layers(const StepArrays& step, std::vector<KvLayer>& pool) const {
  mx::array x = embedding(step.tokens, embedding_, dtype_);
  if (spec_.embedding_scale != 1) x = mx::multiply(x, mx::array(spec_.embedding_scale, dtype_));
  for (std::size_t i = 0; i < layers_.size(); ++i)
    x = layers_[i](x, step.of(shape_.window_of[i]), pool[i]);
  x = rms_norm(mx::take(x, step.logits_at, 0), norm_, spec_.rms_norm_eps);
  const mx::array logits = mx::astype(linear(x, head_ ? *head_ : embedding_), mx::float32);
  if (spec_.logit_softcap == 0) return logits;
  const mx::array cap(spec_.logit_softcap);
  return mx::multiply(mx::tanh(mx::divide(logits, cap)), cap);
}

Result<std::unique_ptr<Model>> make_decoder(const ConfigReader& config,
                                            DecoderSpec spec,
                                            WeightReader& weights) {
  MLXS_TRY(config.status());
  return std::unique_ptr<Model>(std::make_unique<Decoder>(std::move(spec), weights));
}

}  // namespace mlxs::engine
