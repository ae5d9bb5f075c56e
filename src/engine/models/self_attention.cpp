#include "engine/models/self_attention.h"

#include "engine/ops/attention.h"
#include "engine/ops/linear.h"

#include <mlx/ops.h>

namespace mlxs::engine {

namespace mx = mlx::core;

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
  norms_ = HeadNorms{read_norm(decoder, prefix + "q_norm.weight", decoder.head_dim, weights),
                     read_norm(decoder, prefix + "k_norm.weight", decoder.head_dim, weights),
                     decoder.rms_norm_eps};
}

std::vector<WeightReader::Part> SelfAttention::inputs(const std::string& prefix) const {
  return {{prefix + "q_proj", decoder_.heads * decoder_.head_dim},
          {prefix + "k_proj", decoder_.kv_heads * decoder_.head_dim},
          {prefix + "v_proj", decoder_.kv_heads * decoder_.head_dim}};
}

mx::array SelfAttention::operator()(const mx::array& x,
                                    const StepArrays& step,
                                    KvLayer& pool) const {
  const int all = decoder_.heads + 2 * decoder_.kv_heads;
  const mx::array qkv =
      mx::reshape(linear(x, qkv_, qkv_bias_), {x.shape(0), all, decoder_.head_dim});
  const Heads heads =
      split_heads(qkv, decoder_.heads, decoder_.kv_heads, norms_, rope_, step.positions);
  pool = kv_append(pool, heads.keys, heads.values, step.slots);
  const float scale = spec_.scale * rope_.magnitude * rope_.magnitude;
  const AttentionParams params{scale, spec_.window, spec_.softcap};
  const mx::array out = attention(heads.queries, pool, step.attention, params);
  return linear(
      mx::reshape(out, {x.shape(0), decoder_.heads * decoder_.head_dim}), output_, output_bias_);
}

}  // namespace mlxs::engine
