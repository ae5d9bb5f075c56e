#pragma once

#include "engine/types.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace mlxs::engine {

/// Who holds which block of the key/value pool: a fixed number of blocks with reference counts.
/// Bookkeeping only; the keys and values themselves lie in the runner's tensors under the same
/// indices. Engine thread only. A block released more often than held is a fault of ours and ends
/// the process.
class BlockPool {
 public:
  explicit BlockPool(int blocks_total);

  /// A free block, held once; nothing when all are in use. The block freed last comes first, since
  /// its memory is the likeliest to be in a cache.
  [[nodiscard]] std::optional<BlockId> allocate();
  /// One holder more, of a block that is in use (a shared prefix).
  void retain(BlockId block);
  /// One holder less; the last one frees the block.
  void release(BlockId block);

  [[nodiscard]] int total() const { return static_cast<int>(holders_.size()); }
  [[nodiscard]] int free() const { return static_cast<int>(free_.size()); }
  [[nodiscard]] int holders(BlockId block) const;
  [[nodiscard]] std::uint64_t allocations() const { return allocations_; }  ///< Since the start.

 private:
  [[nodiscard]] std::size_t index(BlockId block) const;

  std::vector<std::int32_t> holders_;  // by block; zero: free
  std::vector<BlockId> free_;          // a stack
  std::uint64_t allocations_ = 0;
};

}  // namespace mlxs::engine
