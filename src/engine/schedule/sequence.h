#pragma once

#include "base/deadline.h"
#include "engine/schedule/kv_space.h"
#include "engine/types.h"

#include <algorithm>
#include <compare>
#include <cstdint>
#include <span>
#include <vector>

namespace mlxs::engine {

/// Who goes first. Fixed when a request comes, so that the order of any two never changes.
struct Rank {
  std::int64_t due = 0;  ///< In plans; a higher class is due earlier.
  std::uint64_t arrival = 0;
  [[nodiscard]] auto operator<=>(const Rank&) const = default;
};

/// What the scheduler knows of one row: a prompt with all its choices until their first token is
/// drawn, one choice from then on.
struct Sequence {
  std::vector<SequenceId> choices;  // the k-th one's rank is `rank` plus k arrivals
  Rank rank;
  std::vector<TokenId> tokens;  // prompt and what was generated
  int prompt_tokens = 0;
  int tokens_max = 0;
  Deadline deadline;
  Deadline row_deadline;
  KvHold kv;
  int computed = 0;            // positions whose keys and values are in `kv`
  int planned = 0;             // tokens of it in the step under way
  int prompt_logits_from = 0;  // logits of the prompt's positions before it are not wanted (again)
  int cached_tokens = 0;       // of the prompt, that `kv` had from others
  bool counted = false;        // its prompt was looked up once, or need not be
  bool decodes_now = false;
  bool ended = false;
  std::uint64_t served_in = 0;  // the plan that had it last, or in which it was admitted

  [[nodiscard]] int size() const { return static_cast<int>(tokens.size()); }
  [[nodiscard]] int remaining() const { return size() - computed; }
  // A prompt's last single token costs as much as a decode row and is served like one.
  [[nodiscard]] bool decodes() const { return remaining() == 1; }
  [[nodiscard]] bool wants_prompt_logits() const { return prompt_logits_from < prompt_tokens - 1; }
  // Positions that another sequence's blocks may stand for: the last token is always computed.
  [[nodiscard]] int match_limit() const {
    return wants_prompt_logits() ? prompt_logits_from : size() - 1;
  }
};

}  // namespace mlxs::engine
