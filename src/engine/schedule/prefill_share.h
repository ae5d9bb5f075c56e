#pragma once

#include <span>
#include <vector>

namespace mlxs::engine {

/// Splits `budget` tokens of one step between prompts that still have `remaining[i] >= 1` tokens to
/// prefill, oldest first. Returns how many each gets; together min(budget, sum of remaining).
///
/// Half the budget (rounded up) is the oldest prompt's, so a long one gets on however many short
/// ones come after it. The other half, and what the oldest leaves, goes to the prompts with the
/// least remaining first (the older of equals), so a short prompt passes a long one within a step
/// or two: least remaining first gives the shortest mean time to the first token, and few prompts
/// are under way at a time.
[[nodiscard]] std::vector<int> share_prefill(std::span<const int> remaining, int budget);

}  // namespace mlxs::engine
