#include "engine/schedule/kv_space.h"

#include "base/assert.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace mlxs::engine {
namespace {

NodeId tip(const KvHold& hold) { return hold.nodes.empty() ? NodeId::kRoot : hold.nodes.back(); }

}  // namespace

KvSpace::KvSpace(BlockPool& blocks,
                 int block_tokens,
                 bool keep_prefixes,
                 std::span<const KvWindow> windows)
    : pool_{blocks},
      block_tokens_{block_tokens},
      keep_prefixes_{keep_prefixes},
      tree_{blocks, block_tokens} {
  for (const KvWindow& window : windows) windows_.emplace_back(window, block_tokens);
}

std::span<const TokenId> KvSpace::block_of(std::span<const TokenId> tokens,
                                           std::size_t index) const {
  const auto size = static_cast<std::size_t>(block_tokens_);
  return tokens.subspan(index * size, size);
}

bool KvSpace::grow(KvHold& hold, int blocks) {
  const int more = blocks - static_cast<int>(hold.blocks.size());
  if (more > available()) return false;
  for (int k = 0; k < more; ++k) {
    if (pool_.free() == 0) {
      const auto evicted = tree_.evict();
      MLXS_ASSERT(evicted);
      for (WindowBlocks& window : windows_) window.forget(*evicted);
    }
    hold.blocks.push_back(pool_.allocate().value());
  }
  return true;
}

void KvSpace::grow_windows(KvHold& hold, int blocks) {
  MLXS_ASSERT(blocks <= static_cast<int>(hold.blocks.size()));
  hold.windows.resize(windows_.size());
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    WindowHold& own = hold.windows[w];
    while (own.first + static_cast<int>(own.blocks.size()) < blocks)
      own.blocks.push_back(windows_[w].allocate());
  }
}

/// The nodes behind those that `hold` has that it may take.
std::vector<NodeId> KvSpace::find(const KvHold& hold,
                                  std::span<const TokenId> tokens,
                                  int limit) const {
  std::vector<NodeId> found;
  if (!keep_prefixes_) return found;
  NodeId parent = tip(hold);
  for (std::size_t index = hold.nodes.size(); static_cast<int>(index + 1) * block_tokens_ <= limit;
       ++index) {
    const auto node = tree_.find(parent, block_of(tokens, index));
    if (!node) break;
    found.push_back(*node);
    parent = *node;
  }
  found.resize(takeable(found, static_cast<int>(hold.nodes.size())));
  return found;
}

/// How many of `nodes`, of which the first stands for a sequence's block `first`, leave all that is
/// seen behind them in place, given that those before them do.
std::size_t KvSpace::takeable(const std::vector<NodeId>& nodes, int first) const {
  if (windows_.empty()) return nodes.size();
  std::size_t most = 0;
  std::vector<int> kept_from(windows_.size(), first);  // all from there on are kept
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    const int end = first + static_cast<int>(k) + 1;
    bool all = true;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      if (!windows_[w].keeps(nodes[k])) kept_from[w] = end;
      all = all && kept_from[w] <= std::max(first, windows_[w].first_seen(end));
    }
    if (all) most = k + 1;
  }
  return most;
}

int KvSpace::match(KvHold& hold, std::span<const TokenId> tokens, int computed, int limit) {
  const std::size_t had = hold.nodes.size();
  for (const NodeId node : find(hold, tokens, limit)) {
    const std::size_t index = hold.nodes.size();
    tree_.take(node);
    if (index < hold.blocks.size()) {
      pool_.release(hold.blocks[index]);
      hold.blocks[index] = tree_.block(node);
    } else {
      hold.blocks.push_back(tree_.block(node));
    }
    hold.nodes.push_back(node);
  }
  if (hold.nodes.size() == had) return computed;
  take_windows(hold, static_cast<int>(had));
  return static_cast<int>(hold.nodes.size()) * block_tokens_;
}

/// Takes what is kept for `hold`'s nodes from the `from`-th on, as far as it is still seen.
void KvSpace::take_windows(KvHold& hold, int from) {
  hold.windows.resize(windows_.size());
  const int end = static_cast<int>(hold.nodes.size());
  drop_unseen(hold, end);
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    WindowHold& own = hold.windows[w];
    for (int index = std::max(own.first, from); index < end; ++index) {
      const BlockId block = windows_[w].take(hold.nodes[static_cast<std::size_t>(index)]);
      const auto at = static_cast<std::size_t>(index - own.first);
      if (at < own.blocks.size()) {
        windows_[w].release(own.blocks[at]);
        own.blocks[at] = block;
      } else {
        own.blocks.push_back(block);
      }
    }
  }
}

/// Gives back what no query behind `hold`'s first `blocks` blocks sees.
void KvSpace::drop_unseen(KvHold& hold, int blocks) {
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    WindowHold& own = hold.windows[w];
    const int more = windows_[w].first_seen(blocks) - own.first;
    if (more <= 0) continue;
    const auto unseen = own.blocks.begin() + std::min<std::ptrdiff_t>(more, std::ssize(own.blocks));
    std::for_each(own.blocks.begin(), unseen, [&](BlockId block) { windows_[w].release(block); });
    own.blocks.erase(own.blocks.begin(), unseen);
    own.first += more;
  }
}

int KvSpace::known(const KvHold& hold,
                   std::span<const TokenId> tokens,
                   int computed,
                   int limit) const {
  const std::size_t more = find(hold, tokens, limit).size();
  return more == 0 ? computed : static_cast<int>(hold.nodes.size() + more) * block_tokens_;
}

void KvSpace::publish(KvHold& hold, std::span<const TokenId> tokens, int computed) {
  const int full = computed / block_tokens_;
  while (keep_prefixes_ && static_cast<int>(hold.nodes.size()) < full) {
    const std::size_t index = hold.nodes.size();
    const auto found = tree_.find(tip(hold), block_of(tokens, index));
    const NodeId node =
        found ? *found : tree_.insert(tip(hold), block_of(tokens, index), hold.blocks[index]);
    if (found) {
      tree_.take(node);
      pool_.release(hold.blocks[index]);
      hold.blocks[index] = tree_.block(node);
    }
    hold.nodes.push_back(node);
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      WindowHold& own = hold.windows[w];
      BlockId& block = own.blocks.at(index - static_cast<std::size_t>(own.first));
      if (windows_[w].keeps(node))
        windows_[w].release(std::exchange(block, windows_[w].take(node)));
      else
        windows_[w].keep(node, block);
    }
  }
  drop_unseen(hold, full);
}

KvHold KvSpace::fork(const KvHold& hold, int blocks) {
  const auto count = static_cast<std::size_t>(blocks);
  MLXS_ASSERT(count <= hold.blocks.size());
  KvHold fork;
  fork.blocks.assign(hold.blocks.begin(), hold.blocks.begin() + blocks);
  if (keep_prefixes_) {
    MLXS_ASSERT(count <= hold.nodes.size());
    fork.nodes.assign(hold.nodes.begin(), hold.nodes.begin() + blocks);
    for (const NodeId node : fork.nodes) tree_.take(node);
  } else {
    for (const BlockId block : fork.blocks) pool_.retain(block);
  }
  for (std::size_t w = 0; w < windows_.size(); ++w) {
    const WindowHold& own = hold.windows[w];
    const int first = windows_[w].first_seen(blocks);
    MLXS_ASSERT(own.first <= first);
    fork.windows.push_back({first, {}});
    for (int index = first; index < blocks; ++index) {
      const BlockId block = own.blocks.at(static_cast<std::size_t>(index - own.first));
      windows_[w].retain(block);
      fork.windows.back().blocks.push_back(block);
    }
  }
  return fork;
}

void KvSpace::release(KvHold& hold) {
  for (std::size_t w = 0; w < hold.windows.size(); ++w)
    for (; !hold.windows[w].blocks.empty(); hold.windows[w].blocks.pop_back())
      windows_[w].release(hold.windows[w].blocks.back());
  hold.windows.clear();
  while (hold.blocks.size() > hold.nodes.size()) {
    pool_.release(hold.blocks.back());
    hold.blocks.pop_back();
  }
  for (; !hold.nodes.empty(); hold.nodes.pop_back()) tree_.give_back(hold.nodes.back());
  hold.blocks.clear();
}

bool KvSpace::writable(const KvHold& hold, int computed) const {
  const int from = computed / block_tokens_;
  for (auto k = static_cast<std::size_t>(from); k < hold.blocks.size(); ++k)
    if (pool_.holders(hold.blocks[k]) != 1) return false;
  for (std::size_t w = 0; w < hold.windows.size(); ++w) {
    const WindowHold& own = hold.windows[w];
    for (auto k = static_cast<std::size_t>(std::max(0, from - own.first)); k < own.blocks.size();
         ++k)
      if (windows_[w].pool().holders(own.blocks[k]) != 1) return false;
  }
  return true;
}

}  // namespace mlxs::engine
