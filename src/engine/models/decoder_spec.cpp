#include "engine/models/decoder_spec.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

constexpr std::int64_t kHeadsWidthMax = 1 << 24;  // Keeps every product of shapes within an int.
constexpr int kLayersMax = 4096;

Activation read_activation(ConfigReader& config, Activation absent) {
  // Gemma writes both keys, and the second is the one that counts.
  const std::string name = config.string("hidden_activation", config.string("hidden_act", ""));
  if (name.empty()) return absent;
  if (name == "silu") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh") return Activation::kGeluTanh;
  config.reject("hidden_act", "other than silu and gelu_pytorch_tanh is not supported");
  return absent;
}

void reject_foreign_quantisation(ConfigReader& config, const std::string& file) {
  const auto* object = config.object("quantization_config");
  if (object == nullptr) return;
  ConfigReader quantisation(*object, file);
  const std::string method = quantisation.string("quant_method", "");
  if (method.empty()) return;  // mlx-lm's own, under Hugging Face's key.
  config.reject("quantization_config", fmt::format("of method '{}' is not supported", method));
}

}  // namespace

DecoderSpec read_decoder_spec(const Checkpoint& checkpoint,
                              ConfigReader& config,
                              const DecoderDefaults& defaults) {
  DecoderSpec spec;
  reject_foreign_quantisation(config, checkpoint.config_file);
  const auto count = [&](const char* key, int absent) {
    return absent == 0 ? config.count(key) : config.count(key, absent);
  };
  spec.hidden_size = config.count("hidden_size");
  spec.heads = count("num_attention_heads", defaults.heads);
  spec.kv_heads =
      count("num_key_value_heads", defaults.kv_heads == 0 ? spec.heads : defaults.kv_heads);
  spec.head_dim = count(
      "head_dim",
      defaults.head_dim == 0 ? std::max(1, spec.hidden_size / spec.heads) : defaults.head_dim);
  spec.vocab_size = count("vocab_size", defaults.vocab_size);
  spec.context_tokens_max = count("max_position_embeddings", defaults.context_tokens_max);
  spec.rms_norm_eps = static_cast<float>(
      defaults.rms_norm_eps == 0 ? config.number("rms_norm_eps")
                                 : config.number("rms_norm_eps", defaults.rms_norm_eps));
  spec.tied = config.boolean("tie_word_embeddings", !checkpoint.tensors.contains("lm_head.weight"));
  spec.ropes.push_back(read_rope_args(config, checkpoint.config_file, defaults.rope_theta));

  const int layers = config.count("num_hidden_layers");
  if (layers > kLayersMax) config.reject("num_hidden_layers", "is too large");
  LayerSpec layer;
  layer.attention.scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim));
  layer.feed_forward.activation = read_activation(config, defaults.activation);
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

void read_windows(const Checkpoint& checkpoint,
                  ConfigReader& config,
                  int window_default,
                  int pattern,
                  DecoderSpec& spec) {
  const int window = config.count("sliding_window", window_default);
  const auto* types = checkpoint.config.if_contains("layer_types");
  if (types != nullptr && types->is_null()) types = nullptr;
  if (types != nullptr && (!types->is_array() || types->get_array().size() != spec.layers.size())) {
    config.reject("layer_types", "has to be a list with an entry a layer");
    return;
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    bool slides = (i + 1) % static_cast<std::size_t>(pattern) != 0;
    if (types != nullptr) {
      const auto& type = types->get_array()[i];
      slides = type == "sliding_attention";
      if (!slides && type != "full_attention") {
        config.reject("layer_types", "other than full_attention and sliding_attention");
      }
    }
    if (slides) spec.layers[i].attention.window = window;
  }
}

mx::array read_norm(const DecoderSpec& decoder,
                    const std::string& name,
                    int size,
                    WeightReader& weights) {
  return decoder.norms_add_one ? weights.vector_plus_one(name, size) : weights.vector(name, size);
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
