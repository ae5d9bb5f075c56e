#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::engine {

using TokenId = std::int32_t;
/// A sequence in the engine; never reused within a process.
enum class SequenceId : std::uint64_t {};
/// Index of a block of key/value positions; the same index in every layer without a window, and in
/// every layer that sees the same window.
enum class BlockId : std::int32_t {};

/// Arithmetic of activations. kAuto on CPU is float32 but for products with quantised
/// weights, where they are whole numbers of 16 bits; on GPU the checkpoint's dtype. kInt8 is kAuto
/// with 8 bits there on CPU: faster, and further from float32.
enum class Compute { kAuto, kFloat32, kInt8 };

/// Who goes first where there is not room for all. A class is a head start of
/// `SchedulerLimits::class_steps` steps over the next lower one, so nothing starves.
enum class Priority : std::uint8_t { kLow, kNormal, kHigh };

/// Added to one token's logit. A bias of -100 or less bans the token; with a bias of 100 or more,
/// only tokens that have one can come.
struct LogitBias {
  TokenId token = 0;
  float bias = 0;
};

/// The "don't repeat yourself" penalty, with the names and the arithmetic of llama.cpp's: a token
/// that would make a repetition of n >= allowed_length tokens one longer loses
/// multiplier * base^(n - allowed_length).
struct DryParams {
  float multiplier = 0;    ///< 0: off
  float base = 1.75f;      ///< Below 1: off.
  int allowed_length = 2;  ///< >= 0
  int last_n = -1;         ///< How many of the latest tokens are looked at; 0: off, -1: all.
  /// Tokens that no repetition goes across, ascending.
  std::shared_ptr<const std::vector<TokenId>> breakers = {};
};

/// How a row's next token is drawn. The draw depends on the logits, these parameters, the tokens so
/// far and the position only, so a sequence gets the same tokens alone, in any batch, after a
/// preemption or on another worker.
///
/// First the logits are changed, in vLLM's order: tokens banned by `min_tokens`, logit_bias,
/// repetition_penalty, frequency_penalty and presence_penalty; then DRY. With temperature 0 the
/// best one is taken. Else the filters of transformers in its order: temperature, top_k, top_p,
/// min_p; then llama.cpp's XTC on the probabilities they leave.
struct SamplingParams {
  float temperature = 1.0f;  ///< 0: greedy, the lowest id among equal best logits.
  float top_p = 1.0f;        ///< (0, 1]
  int top_k = 0;             ///< 0: off
  float min_p = 0.0f;        ///< [0, 1]
  std::uint64_t seed = 0;
  std::uint32_t choice = 0;  ///< Which of several answers to one prompt; each draws its own.

  /// With this probability, of all tokens at least `xtc_threshold` probable only the least probable
  /// stays.
  float xtc_probability = 0.0f;      ///< [0, 1]; 0: off
  float xtc_threshold = 0.1f;        ///< [0, 1]
  float repetition_penalty = 1.0f;   ///< > 0; of tokens in the prompt or generated; 1: off
  float frequency_penalty = 0.0f;    ///< [-2, 2]; for each time a token was generated
  float presence_penalty = 0.0f;     ///< [-2, 2]; once for a token that was generated
  std::vector<LogitBias> bias = {};  ///< Each token once, ids below the vocabulary's size.
  DryParams dry = {};
};

/// A token and the natural logarithm of its probability in the model's own distribution: softmax of
/// its logits, before bias, penalties, temperature and filters.
struct TopLogprob {
  TokenId token = 0;
  float logprob = 0;
};

/// A token of a text.
struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
  std::string text = {};             ///< What it adds to the text. Joined they are the text.
  bool cut = false;                  ///< A stop string took the end of its text.
  std::vector<TopLogprob> top = {};  ///< The most probable tokens in its place, best first.
};

/// Layers that see a window only: their blocks, which are apart from those of other layers.
struct KvWindow {
  int tokens = 0;        ///< Positions a query sees, itself included; >= 1.
  int blocks_total = 0;  ///< >= 1
};

/// What the rest of the program needs to know of a loaded model. A snapshot, never changes.
struct ModelInfo {
  std::string architecture;            ///< `model_type`, e.g. "llama".
  int vocab_size = 0;                  ///< Width of a logits row.
  int context_tokens_max = 0;          ///< Prompt plus completion.
  int block_tokens = 0;                ///< Positions in a block.
  int blocks_total = 0;                ///< Blocks of the layers without a window.
  std::vector<KvWindow> windows = {};  ///< Of the layers that have one, each once, ascending.
  std::vector<TokenId> end_tokens;     ///< A generated one of these ends the sequence.
  std::uint64_t weights_bytes = 0;
  std::uint64_t kv_bytes = 0;  ///< Of the whole pool, windows included.
  std::uint64_t buffers = 0;   ///< That the device holds for it at most.
  std::string weights_digest;  ///< Hex SHA-256 over configuration, tensor headers, size, mtime.
  // Defaults from the model's generation configuration, where it has one.
  SamplingParams default_sampling{};
};

}  // namespace mlxs::engine
