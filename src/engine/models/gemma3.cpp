// Gemma 3, its text part: gemma2 without soft caps, with norms over heads, five layers with a
// window to one without, and a rope of their own for those with. Follows mlx-lm's gemma3_text.py.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr int kWindowed = 1;  // Index of the windowed layers' rope.

/// The value bfloat16 has for `x`: the reference's embedding scale is one in any precision.
float as_bfloat16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

/// The windowed layers' rope beside the others': transformers 5 writes both under
/// `rope_parameters` by layer type, before it the second stood in a key of its own.
void read_ropes(const Checkpoint& checkpoint, ConfigReader& config, DecoderSpec& spec) {
  const std::string& file = checkpoint.config_file;
  RopeArgs windowed;
  windowed.theta = config.number("rope_local_base_freq", 10000);
  if (!(windowed.theta > 0)) config.reject("rope_local_base_freq", "has to be positive");
  const auto* ropes = config.object("rope_parameters");
  if (ropes != nullptr) {
    ConfigReader by_type(*ropes, file);
    if (const auto* full = by_type.object("full_attention")) {
      RopeArgs args;
      args.theta = config.number("rope_theta", 1000000);
      spec.ropes[0] = read_rope_scaling(config, "rope_parameters", *full, file, args);
    }
    if (const auto* sliding = by_type.object("sliding_attention")) {
      windowed = read_rope_scaling(config, "rope_parameters", *sliding, file, windowed);
    }
  }
  spec.ropes.push_back(windowed);
}

}  // namespace

Result<std::unique_ptr<Model>> make_gemma3(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(checkpoint,
                                       config,
                                       {.context_tokens_max = 131072,
                                        .heads = 8,
                                        .kv_heads = 4,
                                        .head_dim = 256,
                                        .vocab_size = 262208,
                                        .rms_norm_eps = 1e-6f,
                                        .rope_theta = 1000000,
                                        .activation = Activation::kGeluTanh});
  spec.norms_add_one = true;
  spec.embedding_scale = as_bfloat16(std::sqrt(static_cast<float>(spec.hidden_size)));
  const auto divisor = static_cast<float>(config.count("query_pre_attn_scalar", 256));
  const int pattern =
      config.count("sliding_window_pattern", config.count("_sliding_window_pattern", 6));
  read_ropes(checkpoint, config, spec);
  read_windows(checkpoint, config, 4096, pattern, spec);
  for (LayerSpec& layer : spec.layers) {
    layer.output_norms = true;
    layer.attention.head_norms = true;
    layer.attention.scale = 1 / std::sqrt(divisor);
    if (layer.attention.window != 0) layer.attention.rope = kWindowed;
  }
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
