#pragma once

#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_tree.h"
#include "engine/kv/window_blocks.h"
#include "engine/types.h"

#include <cstdint>
#include <span>
#include <vector>

namespace mlxs::engine {

/// The blocks that one sequence has for layers with a window: those that a later query can see.
struct WindowHold {
  int first = 0;                ///< The sequence's block that blocks[0] is.
  std::vector<BlockId> blocks;  ///< By position from there on.
};

/// The blocks of one sequence, by position. The leading ones may be shared; those that its next
/// token is written to, and all after, are its alone.
struct KvHold {
  std::vector<BlockId> blocks;      ///< Of the layers without a window.
  std::vector<NodeId> nodes;        ///< Of the leading blocks, as far as they are in the tree.
  std::vector<WindowHold> windows;  ///< By window; empty until the first `grow_windows` or `match`.
};

/// Gives blocks to sequences: takes free ones, then evicts what only the prefix tree keeps; lets
/// sequences share full blocks and never a block that is still written.
///
/// Layers without a window have one pool, `blocks`, in which a sequence has a block for each of its
/// positions: who may run is decided by these alone. Each window has a pool of its own, in which
/// a sequence has blocks as far back as its next block's queries see, and none for positions that
/// no step has come to. These pools are so large that they have a block whenever there was one of
/// the others (`window_blocks_needed`). The tree's nodes stand for blocks of the first pool and may
/// keep one of each window's besides; a prefix may be taken where those that are seen behind it
/// are kept.
///
/// Engine thread only; `blocks` outlives it and has no other user that allocates.
class KvSpace {
 public:
  /// Without `keep_prefixes` blocks are shared by the choices of one request only, and nothing
  /// outlives its holders.
  KvSpace(BlockPool& blocks,
          int block_tokens,
          bool keep_prefixes,
          std::span<const KvWindow> windows);

  /// Blocks that `grow` can hand out.
  [[nodiscard]] int available() const { return pool_.free() + tree_.evictable(); }
  /// Makes `hold` at least `blocks` long. False when there are too few; then it changed nothing.
  [[nodiscard]] bool grow(KvHold& hold, int blocks);
  /// Makes `hold`'s windows reach to the end of its first `blocks` blocks, which it has. Never
  /// fails.
  void grow_windows(KvHold& hold, int blocks);
  /// Shares what is known of `tokens` from position `computed` on, whole blocks that end at or
  /// before `limit` only; returns how many positions `hold` has keys and values of then. Blocks it
  /// held for these positions are freed.
  [[nodiscard]] int match(KvHold& hold, std::span<const TokenId> tokens, int computed, int limit);
  /// What `match` would return, without sharing anything.
  [[nodiscard]] int known(const KvHold& hold,
                          std::span<const TokenId> tokens,
                          int computed,
                          int limit) const;
  /// `tokens`' first `computed` positions have their keys and values: makes the full blocks
  /// findable, each replaced by that of another sequence which has made it meanwhile, and gives
  /// back those of windows that are not seen any more.
  void publish(KvHold& hold, std::span<const TokenId> tokens, int computed);
  /// Another hold on the first `blocks` blocks, which are full.
  [[nodiscard]] KvHold fork(const KvHold& hold, int blocks);
  void release(KvHold& hold);

  [[nodiscard]] int block_tokens() const { return block_tokens_; }
  [[nodiscard]] bool keeps_prefixes() const { return keep_prefixes_; }
  [[nodiscard]] const PrefixTree& tree() const { return tree_; }
  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  [[nodiscard]] const std::vector<WindowBlocks>& windows() const { return windows_; }
  /// Where a row writes a step's positions from `computed` on, nobody else reads.
  [[nodiscard]] bool writable(const KvHold& hold, int computed) const;

 private:
  [[nodiscard]] std::span<const TokenId> block_of(std::span<const TokenId> tokens,
                                                  std::size_t index) const;
  [[nodiscard]] std::vector<NodeId> find(const KvHold& hold,
                                         std::span<const TokenId> tokens,
                                         int limit) const;
  [[nodiscard]] std::size_t takeable(const std::vector<NodeId>& nodes, int first) const;
  void take_windows(KvHold& hold, int from);
  void drop_unseen(KvHold& hold, int blocks);

  BlockPool& pool_;
  const int block_tokens_;
  const bool keep_prefixes_;
  PrefixTree tree_;
  std::vector<WindowBlocks> windows_;
};

}  // namespace mlxs::engine
