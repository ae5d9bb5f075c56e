#include "engine/schedule/limits.h"

#include "engine/kv/window_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace mlxs::engine {

Result<void> SchedulerLimits::validate() const {
  struct Bound {
    const char* name;
    int value;
    int at_least;
  };
  for (const Bound& bound : {Bound{"sequences_max", sequences_max, 1},
                             Bound{"waiting_max", waiting_max, 0},
                             Bound{"step_tokens_max", step_tokens_max, 2},
                             Bound{"context_tokens_max", context_tokens_max, 2},
                             Bound{"block_tokens", block_tokens, 1},
                             Bound{"blocks_total", blocks_total, 1},
                             Bound{"class_steps", class_steps, 0}})
    if (bound.value < bound.at_least)
      return fail(
          ErrorCode::kConfig,
          fmt::format(
              "[engine] {} must be at least {}, not {}", bound.name, bound.at_least, bound.value),
          bound.name);
  for (const KvWindow& window : windows) {
    const int needed =
        std::min(blocks_total,
                 window_blocks_needed(window.tokens, block_tokens, sequences_max, step_tokens_max));
    if (window.tokens < 1 || window.blocks_total < needed)
      return fail(ErrorCode::kConfig,
                  fmt::format("[engine] a window of {} tokens has {} blocks and needs {}",
                              window.tokens,
                              window.blocks_total,
                              needed),
                  "windows");
  }
  return {};
}

Result<int> SchedulerLimits::completion_tokens(std::size_t prompt_tokens, int wanted) const {
  const auto prompt = static_cast<std::int64_t>(prompt_tokens);
  if (prompt + 1 > context_tokens_max)
    return fail(ErrorCode::kContextLengthExceeded,
                fmt::format("This model's maximum context length is {} tokens. However, you "
                            "requested {} tokens ({} in the prompt, at least 1 in the completion). "
                            "Please reduce the length of the prompt.",
                            context_tokens_max,
                            prompt + 1,
                            prompt));
  const std::int64_t positions = std::int64_t{blocks_total} * block_tokens;
  if (prompt > positions)
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("The prompt has {} tokens, but the key/value memory of this worker "
                            "holds {} in all.",
                            prompt,
                            positions));
  // The last token drawn is never fed back, so it needs no position.
  const std::int64_t room = std::min<std::int64_t>(context_tokens_max, positions + 1) - prompt;
  return static_cast<int>(std::min<std::int64_t>(wanted, room));
}

}  // namespace mlxs::engine
