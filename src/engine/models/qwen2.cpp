// Qwen 2 and 2.5: llama with biases on queries, keys and values. Follows mlx-lm's qwen2.py.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <utility>

namespace mlxs::engine {

Result<std::unique_ptr<Model>> make_qwen2(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(checkpoint, config, {.context_tokens_max = 32768});
  reject_windows(checkpoint, config);
  for (LayerSpec& layer : spec.layers) layer.attention.input_bias = true;
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
