#pragma once

#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"
#include "engine/models/rope_config.h"
#include "engine/ops/gated.h"

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
  int intermediate_size = 0;
  bool bias = false;
};

struct LayerSpec {
  AttentionSpec attention;
  FeedForwardSpec feed_forward;
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
  bool tied = false;  ///< The head is the embedding.
  std::vector<RopeArgs> ropes;
  std::vector<LayerSpec> layers;
};

/// What families have in common, under Hugging Face's keys; every layer is llama's without biases,
/// with scores scaled by 1/√head_dim and one rope. Rejects, by key, what would change the
/// arithmetic in ways we don't have and head counts that don't go together: a checkpoint is never
/// run as something it is not. `context_default`: where `max_position_embeddings` is absent.
[[nodiscard]] DecoderSpec read_decoder_spec(const Checkpoint& checkpoint,
                                            ConfigReader& config,
                                            int context_default);

/// Rejects sliding windows, for families whose attention has none.
void reject_windows(const Checkpoint& checkpoint, ConfigReader& config);

}  // namespace mlxs::engine
