#include "base/assert.h"
#include "engine/schedule/scheduler.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

namespace mlxs::engine {
namespace {

auto rank_of(const std::unique_ptr<Sequence>& sequence) { return sequence->rank; }

/// Each block has the holders that sequences are, and the tree besides for `in_tree` of them.
void check_holders(const BlockPool& pool, const std::map<BlockId, int>& by_sequences, int in_tree) {
  int unused = 0;
  for (int k = 0; k < pool.total(); ++k) {
    const BlockId block{k};
    const auto held = by_sequences.find(block);
    const int all = pool.holders(block);
    const int by_tree = all - (held == by_sequences.end() ? 0 : held->second);
    MLXS_ASSERT(by_tree == 0 || by_tree == 1);
    in_tree -= by_tree;
    unused += all == 0;
  }
  MLXS_ASSERT(in_tree == 0);
  MLXS_ASSERT(unused == pool.free());
}

}  // namespace

void Scheduler::verify() const {
  MLXS_ASSERT(!in_step_);
  MLXS_ASSERT(std::ranges::is_sorted(running_, {}, rank_of));
  MLXS_ASSERT(std::ranges::is_sorted(waiting_, {}, rank_of));
  const std::vector<WindowBlocks>& windows = kv_.windows();
  std::map<BlockId, int> holders;
  std::vector<std::map<BlockId, int>> window_holders(windows.size());
  int here = 0;
  const auto look_at = [&](const Sequence& sequence) {
    here += static_cast<int>(sequence.choices.size());
    const KvHold& kv = sequence.kv;
    for (const BlockId block : kv.blocks) ++holders[block];
    const int full = sequence.computed / limits_.block_tokens;
    for (std::size_t w = 0; w < kv.windows.size(); ++w) {
      const auto& [first, blocks] = kv.windows[w];
      MLXS_ASSERT(first == windows[w].first_seen(full));
      MLXS_ASSERT(first + std::ssize(blocks) >= limits_.blocks_for(sequence.computed));
      MLXS_ASSERT(first + std::ssize(blocks) <= std::ssize(kv.blocks));
      for (const BlockId block : blocks) ++window_holders[w][block];
    }
    for (std::size_t k = 0; k < kv.nodes.size(); ++k)
      MLXS_ASSERT(kv_.tree().block(kv.nodes[k]) == kv.blocks.at(k));
    if (kv_.keeps_prefixes())
      MLXS_ASSERT(static_cast<int>(kv.nodes.size()) == sequence.computed / limits_.block_tokens);
    MLXS_ASSERT(kv_.writable(kv, sequence.computed));
  };
  for (const SequencePtr& sequence : running_) look_at(*sequence);
  for (const SequencePtr& sequence : waiting_) {
    look_at(*sequence);
    MLXS_ASSERT(sequence->kv.blocks.empty());
  }
  MLXS_ASSERT(here == here_);
  check_holders(kv_.pool(), holders, kv_.tree().size());
  for (std::size_t w = 0; w < windows.size(); ++w)
    check_holders(windows[w].pool(), window_holders[w], windows[w].kept());
}

}  // namespace mlxs::engine
