#include "engine/models/self_attention.h"

#include "engine/ops/attention.h"
#include "engine/ops/linear.h"
#include "engine/ops/norm.h"

#include <mlx/ops.h>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// Heads [first, last) of a fused product.
mx::array slice_heads(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0}, {x.shape(0), last, x.shape(2)});
}

}  // namespace

SelfAttention::SelfAttention(const DecoderSpec& decoder,
                             const AttentionSpec& spec,
                             const Rope& rope,
                             const std::string& prefix,
                             WeightReader& weights)
    : decoder_(decoder),
      spec_(spec),
      rope_(rope),
      qkv_(weights.matrices(inputs(prefix), decoder.hidden_size)),
      output_(weights.matrix({prefix + "o_proj", decoder.hidden_size},
                             decoder.heads * decoder.head_dim)) {
  if (spec.input_bias) qkv_bias_ = weights.bias(inputs(prefix));
  if (spec.output_bias) output_bias_ = weights.bias({{prefix + "o_proj", decoder.hidden_size}});
  if (!spec.head_norms) return;
  query_norm_ = read_norm(decoder, prefix + "q_norm.weight", decoder.head_dim, weights);
  key_norm_ = read_norm(decoder, prefix + "k_norm.weight", decoder.head_dim, weights);
}

std::vector<WeightReader::Part> SelfAttention::inputs(const std::string& prefix) const {
  return {{prefix + "q_proj", decoder_.heads * decoder_.head_dim},
          {prefix + "k_proj", decoder_.kv_heads * decoder_.head_dim},
          {prefix + "v_proj", decoder_.kv_heads * decoder_.head_dim}};
}

SelfAttention::Heads SelfAttention::project(const mx::array& x, const StepArrays& step) const {
  const int heads = decoder_.heads;
  const int turned = heads + decoder_.kv_heads;
  const int all = turned + decoder_.kv_heads;
  const mx::array qkv =
      mx::reshape(linear(x, qkv_, qkv_bias_), {x.shape(0), all, decoder_.head_dim});
  const mx::array values = slice_heads(qkv, turned, all);
  if (!spec_.head_norms) {
    // Queries and keys turn together: they are neighbours in the fused product.
    const mx::array qk = rope(slice_heads(qkv, 0, turned), rope_, step.positions);
    return {slice_heads(qk, 0, heads), slice_heads(qk, heads, turned), values};
  }
  const auto turn = [&](int first, int last, const mx::array& norm) {
    const mx::array normed = rms_norm(slice_heads(qkv, first, last), norm, decoder_.rms_norm_eps);
    return rope(normed, rope_, step.positions);
  };
  return {turn(0, heads, *query_norm_), turn(heads, turned, *key_norm_), values};
}

mx::array SelfAttention::operator()(const mx::array& x,
                                    const StepArrays& step,
                                    KvLayer& pool) const {
  const Heads heads = project(x, step);
  pool = kv_append(pool, heads.keys, heads.values, step.slots);
  const float scale = spec_.scale * rope_.magnitude * rope_.magnitude;
  const AttentionParams params{scale, spec_.window, spec_.softcap};
  const mx::array out = attention(heads.queries, pool, step.attention, params);
  return linear(
      mx::reshape(out, {x.shape(0), decoder_.heads * decoder_.head_dim}), output_, output_bias_);
}

}  // namespace mlxs::engine
