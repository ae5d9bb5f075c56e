#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mlxs::engine {

using TokenId = std::int32_t;
/// A sequence in the engine; never reused within a process.
enum class SequenceId : std::uint64_t {};
/// Index of a block of key/value positions in the pool; the same index in every layer.
enum class BlockId : std::int32_t {};

/// Arithmetic of activations. kAuto is float32 on CPU, the checkpoint's dtype on GPU.
enum class Compute { kAuto, kFloat32 };

/// Who goes first where there is not room for all. A class is a head start of
/// `SchedulerLimits::class_steps` steps over the next lower one, so nothing starves.
enum class Priority : std::uint8_t { kLow, kNormal, kHigh };

/// How a row's next token is drawn. Stateless: the draw depends on (logits, params, position) only,
/// so a sequence gets the same tokens alone, in any batch, after a preemption or on another worker.
/// Filters apply in this order: temperature, top_k, top_p, min_p (as mlx-lm and transformers do).
struct SamplingParams {
  float temperature = 1.0f;  ///< 0: greedy, the lowest id among equal best logits.
  float top_p = 1.0f;        ///< (0, 1]
  int top_k = 0;             ///< 0: off
  float min_p = 0.0f;        ///< [0, 1]
  std::uint64_t seed = 0;
  std::uint32_t choice = 0;  ///< Which of several answers to one prompt; each draws its own.
};

/// What the rest of the program needs to know of a loaded model. A snapshot, never changes.
struct ModelInfo {
  std::string architecture;         ///< `model_type`, e.g. "llama".
  int vocab_size = 0;               ///< Width of a logits row.
  int context_tokens_max = 0;       ///< Prompt plus completion.
  int block_tokens = 0;             ///< Positions in a block.
  int blocks_total = 0;             ///< Blocks in the pool.
  std::vector<TokenId> end_tokens;  ///< A generated one of these ends the sequence.
  std::uint64_t weights_bytes = 0;
  std::uint64_t kv_bytes = 0;  ///< Of the whole pool.
  std::string weights_digest;  ///< Hex SHA-256 over configuration, tensor headers, size, mtime.
  // Defaults from the model's generation configuration, where it has one.
  SamplingParams default_sampling{};
};

}  // namespace mlxs::engine
