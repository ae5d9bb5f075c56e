// Gemma 2: every other layer sees a window, scores and logits are capped softly, and norms stand
// before and behind both blocks. Follows transformers' modeling_gemma2.py: mlx-lm's has no windows.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <cmath>
#include <utility>

namespace mlxs::engine {

Result<std::unique_ptr<Model>> make_gemma2(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(
      checkpoint, config, {.context_tokens_max = 8192, .activation = Activation::kGeluTanh});
  spec.norms_add_one = true;
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.hidden_size));
  spec.logit_softcap = static_cast<float>(config.number("final_logit_softcapping", 30));
  const auto softcap = static_cast<float>(config.number("attn_logit_softcapping", 50));
  const auto divisor = static_cast<float>(config.count("query_pre_attn_scalar", 256));
  for (LayerSpec& layer : spec.layers) {
    layer.output_norms = true;
    layer.attention.scale = 1 / std::sqrt(divisor);
    layer.attention.softcap = softcap;
  }
  read_windows(checkpoint, config, 4096, 2, spec);
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
