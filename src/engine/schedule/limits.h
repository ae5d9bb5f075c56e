#pragma once

#include "base/result.h"
#include "engine/types.h"

#include <cstddef>
#include <vector>

namespace mlxs::engine {

/// What the scheduler works within. Never changes.
struct SchedulerLimits {
  int sequences_max = 64;      ///< Rows in a step; >= 1.
  int waiting_max = 256;       ///< Sequences beyond `sequences_max` that may wait; >= 0.
  int step_tokens_max = 512;   ///< Tokens in a step; >= 2, so that decode and prefill both fit.
  int context_tokens_max = 0;  ///< Prompt plus completion; >= 2.
  int block_tokens = 0;        ///< Positions in a block; >= 1.
  int blocks_total = 0;        ///< >= 1.
  /// Layers with windows, whose blocks are so many that they never run out before others do:
  /// `window_blocks_needed`, or as many as blocks_total.
  std::vector<KvWindow> windows = {};
  bool prefix_cache = true;  ///< Blocks of what was computed stay findable until needed.
  double stall_max_s = 0;    ///< Ceiling of a step that decodes; 0: only step_tokens_max bounds it.
  int class_steps = 500;     ///< Head start of a priority class over the next lower one; >= 0.

  /// kConfig naming the value that is out of range.
  [[nodiscard]] Result<void> validate() const;
  /// How many tokens a sequence may generate: `wanted`, cut to what the context and the whole block
  /// pool leave, so that every admitted sequence can end even if it has to run alone.
  /// kContextLengthExceeded when the context has no room for one token after the prompt,
  /// kOutOfMemory when all blocks together don't hold the prompt. Any thread.
  [[nodiscard]] Result<int> completion_tokens(std::size_t prompt_tokens, int wanted) const;
  /// Blocks that hold `tokens` positions.
  [[nodiscard]] int blocks_for(int tokens) const {
    return (tokens + block_tokens - 1) / block_tokens;
  }
};

}  // namespace mlxs::engine
