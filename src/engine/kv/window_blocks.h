#pragma once

#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_tree.h"
#include "engine/types.h"

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace mlxs::engine {

/// Blocks of `window` that make it impossible for it to run out before blocks of layers without a
/// window do: for each of `rows` the blocks its window reaches into, the one it writes and one that
/// a chunk ends in, and those that a step's chunks fill.
[[nodiscard]] int window_blocks_needed(int window, int block_tokens, int rows, int step_tokens);

/// The blocks of the layers that see one window, and which of them nodes of the prefix tree keep
/// findable: at most one for each node, while its other blocks stay where they are. A kept block
/// has the tree as one holder; without another it stays until its memory is needed or its node is
/// evicted. Unlike nodes, kept blocks depend on none before them: the one unused for the longest
/// time goes first. Engine thread only.
class WindowBlocks {
 public:
  WindowBlocks(const KvWindow& window, int block_tokens);

  /// The first block that a query at or behind position `blocks * block_tokens` can see.
  [[nodiscard]] int first_seen(int blocks) const;

  /// A block held once: a free one, else a kept one that nobody holds. There is one: see
  /// `window_blocks_needed`.
  [[nodiscard]] BlockId allocate();
  /// One holder more, of a block that is held.
  void retain(BlockId block) { pool_.retain(block); }
  /// One holder less. The last one frees a block that no node keeps.
  void release(BlockId block);

  [[nodiscard]] bool keeps(NodeId node) const { return kept_.contains(node); }
  /// Keeps `block`, which the caller holds, for a node that has none.
  void keep(NodeId node, BlockId block);
  /// A hold on the block kept for `node`.
  [[nodiscard]] BlockId take(NodeId node);
  /// `node` is no more: nobody holds what is kept for it.
  void forget(NodeId node);

  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  [[nodiscard]] int kept() const { return static_cast<int>(kept_.size()); }
  [[nodiscard]] int evictable() const { return evictable_; }  ///< Kept and held by nobody.

 private:
  // Of a block, by its index.
  struct Entry {
    std::optional<NodeId> node;  // that keeps it
    std::int32_t older = -1;     // neighbours among those that nobody holds
    std::int32_t younger = -1;
  };

  [[nodiscard]] Entry& entry(std::int32_t block) {
    return entries_[static_cast<std::size_t>(block)];
  }
  void link_youngest(std::int32_t block);
  void unlink(std::int32_t block);

  const int window_;
  const int block_tokens_;
  BlockPool pool_;
  std::vector<Entry> entries_;
  std::unordered_map<NodeId, BlockId> kept_;
  std::int32_t oldest_ = -1;
  std::int32_t youngest_ = -1;
  int evictable_ = 0;
};

}  // namespace mlxs::engine
