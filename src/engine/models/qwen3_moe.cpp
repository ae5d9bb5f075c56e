// Qwen 3 with experts (Qwen3-30B-A3B): qwen3 with a router and experts in place of most layers'
// feed-forward blocks. Follows mlx-lm's qwen3_moe.py.

#include "engine/models/decoder.h"
#include "engine/models/makers.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace mlxs::engine {

Result<std::unique_ptr<Model>> make_qwen3_moe(const Checkpoint& checkpoint, WeightReader& weights) {
  ConfigReader config(checkpoint.config, checkpoint.config_file);
  DecoderSpec spec = read_decoder_spec(checkpoint, config, {.context_tokens_max = 32768});
  reject_windows(checkpoint, config);
  FeedForwardSpec experts{.activation = Activation::kSilu,
                          .intermediate_size = config.count("moe_intermediate_size"),
                          .experts = config.count("num_experts"),
                          .experts_per_token = config.count("num_experts_per_tok"),
                          .normalised_scores = config.boolean("norm_topk_prob", false)};
  if (experts.experts_per_token > experts.experts) {
    config.reject("num_experts_per_tok", "has to be at most num_experts");
  }
  const auto step = static_cast<std::size_t>(config.count("decoder_sparse_step", 1));
  const auto* dense = checkpoint.config.if_contains("mlp_only_layers");
  const auto is_dense = [&](std::size_t layer) {
    return dense != nullptr && dense->is_array() &&
           std::ranges::find(dense->get_array(), boost::json::value(layer)) !=
               dense->get_array().end();
  };
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    layer.attention.head_norms = true;
    if ((i + 1) % step != 0 || is_dense(i)) continue;
    experts.activation = layer.feed_forward.activation;
    layer.feed_forward = experts;
  }
  return make_decoder(config, std::move(spec), weights);
}

}  // namespace mlxs::engine
