#include "engine/kv/window_blocks.h"

#include "base/assert.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace mlxs::engine {
namespace {

std::int64_t blocks_for(std::int64_t tokens, int block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

}  // namespace

int window_blocks_needed(int window, int block_tokens, int rows, int step_tokens) {
  const std::int64_t of_row = blocks_for(window - 1, block_tokens) + 2;
  return static_cast<int>(std::min<std::int64_t>(
      of_row * rows + blocks_for(step_tokens, block_tokens), std::numeric_limits<int>::max()));
}

WindowBlocks::WindowBlocks(const KvWindow& window, int block_tokens)
    : window_{window.tokens},
      block_tokens_{block_tokens},
      pool_{window.blocks_total},
      entries_(static_cast<std::size_t>(window.blocks_total)) {
  MLXS_ASSERT(window_ >= 1);
}

int WindowBlocks::first_seen(int blocks) const {
  const std::int64_t position = std::int64_t{blocks} * block_tokens_ - window_ + 1;
  return static_cast<int>(std::max<std::int64_t>(0, position) / block_tokens_);
}

BlockId WindowBlocks::allocate() {
  if (pool_.free() == 0) {
    MLXS_ASSERT(oldest_ >= 0);
    forget(entry(oldest_).node.value());
  }
  return pool_.allocate().value();
}

void WindowBlocks::release(BlockId block) {
  pool_.release(block);
  const auto index = static_cast<std::int32_t>(block);
  if (entry(index).node && pool_.holders(block) == 1) link_youngest(index);
}

void WindowBlocks::keep(NodeId node, BlockId block) {
  MLXS_ASSERT(kept_.emplace(node, block).second);
  std::optional<NodeId>& keeper = entry(static_cast<std::int32_t>(block)).node;
  MLXS_ASSERT(!keeper);
  keeper = node;
  pool_.retain(block);
}

BlockId WindowBlocks::take(NodeId node) {
  const BlockId block = kept_.at(node);
  if (pool_.holders(block) == 1) unlink(static_cast<std::int32_t>(block));
  pool_.retain(block);
  return block;
}

void WindowBlocks::forget(NodeId node) {
  const auto found = kept_.find(node);
  if (found == kept_.end()) return;
  const BlockId block = found->second;
  MLXS_ASSERT(pool_.holders(block) == 1);
  kept_.erase(found);
  const auto index = static_cast<std::int32_t>(block);
  unlink(index);
  entry(index).node.reset();
  pool_.release(block);
}

void WindowBlocks::link_youngest(std::int32_t block) {
  entry(block).older = youngest_;
  entry(block).younger = -1;
  (youngest_ < 0 ? oldest_ : entry(youngest_).younger) = block;
  youngest_ = block;
  ++evictable_;
}

void WindowBlocks::unlink(std::int32_t block) {
  const Entry& gone = entry(block);
  (gone.older < 0 ? oldest_ : entry(gone.older).younger) = gone.younger;
  (gone.younger < 0 ? youngest_ : entry(gone.younger).older) = gone.older;
  --evictable_;
}

}  // namespace mlxs::engine
