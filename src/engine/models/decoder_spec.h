#pragma once

#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"
#include "engine/load/weights.h"
#include "engine/models/rope_config.h"
#include "engine/ops/gated.h"

#include <mlx/array.h>

#include <string>
#include <vector>

namespace mlxs::engine {

/// What a family's attention does otherwise than llama's.
struct AttentionSpec {
  float scale = 1;          ///< Of the scores.
  float softcap = 0;        ///< Of the scores; 0: off.
  int window = 0;           ///< Positions a query sees; 0: all before it.
  int rope = 0;             ///< Index into DecoderSpec::ropes.
  bool input_bias = false;  ///< On queries, keys and values.
  bool output_bias = false;
  bool head_norms = false;  ///< A norm over each head of queries and keys, before they turn.
};

struct FeedForwardSpec {
  Activation activation = Activation::kSilu;
  int intermediate_size = 0;  ///< Of one expert where there are experts.
  bool bias = false;
  int experts = 0;                 ///< 0: one feed-forward block for all tokens.
  int experts_per_token = 0;       ///< Those with the highest router logits.
  bool normalised_scores = false;  ///< The chosen experts' shares sum to one.
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feed_forward;
  bool output_norms = false;  ///< Norms behind both blocks too, before the residual is added.
};

/// A decoder described: what a family's file reads out of a configuration, and all that `Decoder`
/// needs to know of the family. The defaults are llama's.
struct DecoderSpec {
  int hidden_size = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int context_tokens_max = 0;
  float rms_norm_eps = 0;
  bool norms_add_one = false;  ///< Norms multiply by 1 + weight.
  float embedding_scale = 1;
  float logit_softcap = 0;  ///< Of the final logits; 0: off.
  bool tied = false;        ///< The head is the embedding.
  std::vector<RopeArgs> ropes;
  std::vector<LayerSpec> layers;
};

/// What a family takes where its configuration says nothing; 0: the key has to be there (of
/// kv_heads: as many as heads; of head_dim: hidden_size shared among the heads).
struct DecoderDefaults {
  int context_tokens_max = 2048;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  float rms_norm_eps = 0;
  double rope_theta = 10000;
  Activation activation = Activation::kSilu;
};

/// What families have in common, under Hugging Face's keys; every layer is llama's without biases,
/// with scores scaled by 1/√head_dim and one rope. Rejects, by key, what would change the
/// arithmetic in ways we don't have and head counts that don't go together: a checkpoint is never
/// run as something it is not.
[[nodiscard]] DecoderSpec read_decoder_spec(const Checkpoint& checkpoint,
                                            ConfigReader& config,
                                            const DecoderDefaults& defaults);

/// Which layers see `sliding_window` positions only: what `layer_types` says, else all but each
/// `pattern`-th. Sets AttentionSpec::window.
void read_windows(const Checkpoint& checkpoint,
                  ConfigReader& config,
                  int window_default,
                  int pattern,
                  DecoderSpec& spec);

/// The weight of a norm as `rms_norm` takes it.
[[nodiscard]] mlx::core::array read_norm(const DecoderSpec& decoder,
                                         const std::string& name,
                                         int size,
                                         WeightReader& weights);

/// Rejects sliding windows, for families whose attention has none.
void reject_windows(const Checkpoint& checkpoint, ConfigReader& config);

}  // namespace mlxs::engine
