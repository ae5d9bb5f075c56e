#include "engine/models/decoder_spec.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kHeadsWidthMax = 1 << 24;  // Keeps every product of shapes within an int.
constexpr int kLayersMax = 4096;

Activation read_activation(ConfigReader& config) {
  // Gemma writes both keys, and the second is the one that counts.
  const std::string name = config.string("hidden_activation", config.string("hidden_act", "silu"));
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh") return Activation::kGeluTanh;
  config.reject("hidden_act", "other than silu and gelu_pytorch_tanh is not supported");
  return Activation::kSilu;
}

}  // namespace

DecoderSpec read_decoder_spec(const Checkpoint& checkpoint,
                              ConfigReader& config,
                              int context_default) {
  DecoderSpec spec;
  spec.hidden_size = config.count("hidden_size");
  spec.heads = config.count("num_attention_heads");
  spec.kv_heads = config.count("num_key_value_heads", spec.heads);
  spec.head_dim = config.count("head_dim", std::max(1, spec.hidden_size / spec.heads));
  spec.vocab_size = config.count("vocab_size");
  spec.context_tokens_max = config.count("max_position_embeddings", context_default);
  spec.rms_norm_eps = static_cast<float>(config.number("rms_norm_eps"));
  spec.tied = config.boolean("tie_word_embeddings", !checkpoint.tensors.contains("lm_head.weight"));
  spec.ropes.push_back(read_rope_args(config, checkpoint.config_file));

  const int layers = config.count("num_hidden_layers");
  if (layers > kLayersMax) config.reject("num_hidden_layers", "is too large");
  LayerSpec layer;
  layer.attention.scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  layer.feed_forward.activation = read_activation(config);
  layer.feed_forward.intermediate_size = config.count("intermediate_size");
  spec.layers.assign(static_cast<std::size_t>(std::min(layers, kLayersMax)), layer);

  if (spec.heads % spec.kv_heads != 0) {
    config.reject("num_key_value_heads", "has to divide num_attention_heads");
  }
  if (spec.head_dim % 2 != 0) config.reject("head_dim", "has to be even");
  if (std::int64_t{spec.heads} * spec.head_dim > kHeadsWidthMax) {
    config.reject("num_attention_heads", "times head_dim is too large");
  }
  if (config.number("partial_rotary_factor", 1) != 1) {
    config.reject("partial_rotary_factor", "other than 1 is not supported");
  }
  return spec;
}

void reject_windows(const Checkpoint& checkpoint, ConfigReader& config) {
  if (config.boolean("use_sliding_window", false)) {
    config.reject("use_sliding_window", "true is not supported");
  }
  const auto* layer_types = checkpoint.config.if_contains("layer_types");
  if (layer_types == nullptr || !layer_types->is_array()) return;
  for (const auto& type : layer_types->get_array()) {
    if (type != "full_attention") {
      config.reject("layer_types", "other than full_attention are not supported");
    }
  }
}

}  // namespace mlxs::engine
