#include "engine/kv/block_pool.h"

#include "base/assert.h"

#include <cstddef>

namespace mlxs::engine {

BlockPool::BlockPool(int blocks_total) {
  MLXS_ASSERT(blocks_total > 0);
  holders_.assign(static_cast<std::size_t>(blocks_total), 0);
  free_.reserve(holders_.size());
  for (int block = blocks_total; block-- > 0;) free_.push_back(BlockId{block});
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  holders_[index(block)] = 1;
  ++allocations_;
  return block;
}

void BlockPool::retain(BlockId block) {
  std::int32_t& count = holders_[index(block)];
  MLXS_ASSERT(count > 0);
  ++count;
}

void BlockPool::release(BlockId block) {
  std::int32_t& count = holders_[index(block)];
  MLXS_ASSERT(count > 0);
  if (--count == 0) free_.push_back(block);
}

int BlockPool::holders(BlockId block) const { return holders_[index(block)]; }

std::size_t BlockPool::index(BlockId block) const {
  const auto at = static_cast<std::size_t>(block);
  MLXS_ASSERT(at < holders_.size());
  return at;
}

}  // namespace mlxs::engine
