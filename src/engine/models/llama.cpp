// Llama 2 and 3, SmolLM2 and their kin. Follows mlx-lm's llama.py, less its sliding layers.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <utility>

namespace mlxs::engine {

Result<std::unique_ptr<Model>> make_llama(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(checkpoint, config, {.context_tokens_max = 2048});
  reject_windows(checkpoint, config);
  for (LayerSpec& layer : spec.layers) {
    layer.attention.input_bias = config.boolean("attention_bias", false);
    layer.attention.output_bias = layer.attention.input_bias;
    layer.feed_forward.bias = config.boolean("mlp_bias", false);
  }
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
