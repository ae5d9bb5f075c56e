#pragma once

#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_tree.h"
#include "engine/types.h"

#include <cstdint>
#include <span>
#include <vector>

namespace mlxs::engine {

/// The blocks of one sequence, by position. The leading ones may be shared; those that its next
/// token is written to, and all after, are its alone.
struct KvHold {
  std::vector<BlockId> blocks;
  std::vector<NodeId> nodes;  ///< Of the leading blocks, as far as they are in the tree.
};

/// Gives blocks to sequences: takes free ones, then evicts what only the prefix tree keeps; lets
/// sequences share full blocks and never a block that is still written. Engine thread only;
/// `blocks` outlives it and has no other user that allocates.
class KvSpace {
 public:
  /// Without `keep_prefixes` blocks are shared by the choices of one request only, and nothing
  /// outlives its holders.
  KvSpace(BlockPool& blocks, int block_tokens, bool keep_prefixes);

  /// Blocks that `grow` can hand out.
  [[nodiscard]] int available() const { return pool_.free() + tree_.evictable(); }
  /// Makes `hold` at least `blocks` long. False when there are too few; then it changed nothing.
  [[nodiscard]] bool grow(KvHold& hold, int blocks);
  /// Shares what is known of `tokens` from position `computed` on, whole blocks that end at or
  /// before `limit` only; returns how many positions `hold` has keys and values of then. Blocks it
  /// held for these positions are freed.
  [[nodiscard]] int match(KvHold& hold, std::span<const TokenId> tokens, int computed, int limit);
  /// What `match` would return, without sharing anything.
  [[nodiscard]] int known(const KvHold& hold,
                          std::span<const TokenId> tokens,
                          int computed,
                          int limit) const;
  /// Makes the full blocks of `tokens`' first `computed` positions findable. One that another
  /// sequence has made meanwhile is replaced by that one.
  void publish(KvHold& hold, std::span<const TokenId> tokens, int computed);
  /// Another hold on the first `blocks` blocks, which are full.
  [[nodiscard]] KvHold fork(const KvHold& hold, int blocks);
  void release(KvHold& hold);

  [[nodiscard]] int block_tokens() const { return block_tokens_; }
  [[nodiscard]] bool keeps_prefixes() const { return keep_prefixes_; }
  [[nodiscard]] const PrefixTree& tree() const { return tree_; }
  [[nodiscard]] const BlockPool& pool() const { return pool_; }
  /// Where a row writes a step's positions from `computed` on, nobody else reads.
  [[nodiscard]] bool writable(const KvHold& hold, int computed) const;

 private:
  [[nodiscard]] std::span<const TokenId> block_of(std::span<const TokenId> tokens,
                                                  std::size_t index) const;

  BlockPool& pool_;
  const int block_tokens_;
  const bool keep_prefixes_;
  PrefixTree tree_;
};

}  // namespace mlxs::engine
