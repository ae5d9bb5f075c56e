// Qwen 3: llama with a norm over each head of queries and keys. Follows mlx-lm's qwen3.py.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <utility>

namespace mlxs::engine {

Result<std::unique_ptr<Model>> make_qwen3(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(checkpoint, config, {.context_tokens_max = 32768});
  reject_windows(checkpoint, config);
  for (LayerSpec& layer : spec.layers) layer.attention.head_norms = true;
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
