#include "engine/schedule/prefill_share.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

namespace mlxs::engine {

std::vector<int> share_prefill(std::span<const int> remaining, int budget) {
  std::vector<int> shares(remaining.size(), 0);
  if (remaining.empty() || budget <= 0) return shares;
  shares[0] = std::min(remaining[0], (budget + 1) / 2);
  budget -= shares[0];

  std::vector<std::size_t> order(remaining.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(
      order, {}, [&](std::size_t i) { return std::pair{remaining[i] - shares[i], i}; });
  for (const std::size_t i : order) {
    const int more = std::min(remaining[i] - shares[i], budget);
    shares[i] += more;
    budget -= more;
  }
  return shares;
}

}  // namespace mlxs::engine
