#pragma once

#include "engine/kv/block_pool.h"
#include "engine/types.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace mlxs::engine {

/// A full block of keys and values that can be found by its tokens and all tokens before it.
enum class NodeId : std::int32_t { kRoot = -1 };

/// A hash that leads to the nodes which may be the child of `parent` with these tokens.
[[nodiscard]] std::uint64_t prefix_key(NodeId parent, std::span<const TokenId> tokens);

/// Full blocks that may be shared, in a tree: the way from the root to a node spells the tokens
/// whose keys and values the node's block holds the last of. Kept in `blocks` under one hold of the
/// tree's own, plus one for each taker.
///
/// - A node is found by its parent and its tokens, compared one by one: a hash only leads to it.
/// - Who takes a node has taken its parent, and gives nodes back from the last to the first. So a
///   node without takers has none below it either, and among those without takers a child was
///   always given back before its parent: the one given back longest ago has no children, and
///   evicting it is one step, without a search.
/// - What it holds without takers is bounded by the pool: whoever needs a block evicts one.
///
/// A tree of blocks, not of token runs: blocks are what is shared, so runs would be cut at block
/// borders anyway. Prefix trees over key/value memory: arXiv:2312.07104; sharing by blocks:
/// arXiv:2309.06180. Engine thread only; `blocks` outlives it.
class PrefixTree {
 public:
  PrefixTree(BlockPool& blocks, int block_tokens);

  /// The child of `parent` with exactly these `block_tokens` tokens.
  [[nodiscard]] std::optional<NodeId> find(NodeId parent, std::span<const TokenId> tokens) const;
  /// Adds what `find` doesn't have; `block` holds the tokens' keys and values and is never written
  /// again. The caller's hold on `block` becomes that of the node's first taker, the caller.
  [[nodiscard]] NodeId insert(NodeId parent, std::span<const TokenId> tokens, BlockId block);
  /// One taker more. Its parent is taken by the same one, or the root.
  void take(NodeId node);
  /// One taker less. Without any left the node stays until it is evicted.
  void give_back(NodeId node);
  /// Frees the block that nobody has used for the longest time; returns its node, which is no more.
  /// Nothing when all have takers.
  std::optional<NodeId> evict();

  [[nodiscard]] BlockId block(NodeId node) const { return at(node).block; }
  [[nodiscard]] int size() const { return size_; }                      ///< Blocks it holds.
  [[nodiscard]] int evictable() const { return evictable_; }            ///< Those without takers.
  [[nodiscard]] std::uint64_t evictions() const { return evictions_; }  ///< Since the start.

 private:
  struct Node {
    NodeId parent = NodeId::kRoot;
    std::vector<TokenId> tokens;
    BlockId block{};
    int takers = 0;
    int children = 0;
    // Neighbours among those without takers.
    NodeId older = NodeId::kRoot;
    NodeId younger = NodeId::kRoot;
  };

  [[nodiscard]] const Node& at(NodeId node) const;
  [[nodiscard]] Node& at(NodeId node);
  void link_youngest(NodeId node);
  void unlink(NodeId node);

  BlockPool& blocks_;
  const std::size_t block_tokens_;
  std::vector<Node> nodes_;
  std::vector<NodeId> unused_;  // indices of nodes_
  std::unordered_multimap<std::uint64_t, NodeId> by_key_;
  NodeId oldest_ = NodeId::kRoot;
  NodeId youngest_ = NodeId::kRoot;
  int size_ = 0;
  int evictable_ = 0;
  std::uint64_t evictions_ = 0;
};

}  // namespace mlxs::engine
