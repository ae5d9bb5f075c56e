#include "engine/kv/prefix_tree.h"

#include "base/assert.h"

#include <algorithm>
#include <utility>

namespace mlxs::engine {

// FNV-1a over 32-bit words with a final mix.
std::uint64_t prefix_key(NodeId parent, std::span<const TokenId> tokens) {
  std::uint64_t hash = 0xCBF29CE484222325 ^ static_cast<std::uint32_t>(parent);
  for (const TokenId token : tokens)
    hash = (hash ^ static_cast<std::uint32_t>(token)) * 0x100000001B3;
  return hash ^ (hash >> 29);
}

PrefixTree::PrefixTree(BlockPool& blocks, int block_tokens)
    : blocks_{blocks}, block_tokens_{static_cast<std::size_t>(block_tokens)} {}

std::optional<NodeId> PrefixTree::find(NodeId parent, std::span<const TokenId> tokens) const {
  MLXS_ASSERT(tokens.size() == block_tokens_);
  const auto [begin, end] = by_key_.equal_range(prefix_key(parent, tokens));
  for (auto entry = begin; entry != end; ++entry) {
    const Node& node = at(entry->second);
    if (node.parent == parent && std::ranges::equal(node.tokens, tokens)) return entry->second;
  }
  return std::nullopt;
}

NodeId PrefixTree::insert(NodeId parent, std::span<const TokenId> tokens, BlockId block) {
  MLXS_ASSERT(!find(parent, tokens));
  MLXS_ASSERT(parent == NodeId::kRoot || at(parent).takers > 0);
  if (unused_.empty()) {
    unused_.push_back(static_cast<NodeId>(nodes_.size()));
    nodes_.emplace_back();
  }
  const NodeId id = unused_.back();
  unused_.pop_back();
  Node& node = at(id);
  node.parent = parent;
  node.tokens.assign(tokens.begin(), tokens.end());
  node.block = block;
  node.takers = 1;
  node.children = 0;
  if (parent != NodeId::kRoot) ++at(parent).children;
  blocks_.retain(block);
  by_key_.emplace(prefix_key(parent, tokens), id);
  ++size_;
  return id;
}

void PrefixTree::take(NodeId id) {
  Node& node = at(id);
  MLXS_ASSERT(node.parent == NodeId::kRoot || at(node.parent).takers > 0);
  if (node.takers++ == 0) unlink(id);
  blocks_.retain(node.block);
}

void PrefixTree::give_back(NodeId id) {
  Node& node = at(id);
  MLXS_ASSERT(node.takers > 0);
  blocks_.release(node.block);
  if (--node.takers == 0) link_youngest(id);
}

std::optional<NodeId> PrefixTree::evict() {
  if (oldest_ == NodeId::kRoot) return std::nullopt;
  const NodeId id = oldest_;
  unlink(id);
  Node& node = at(id);
  MLXS_ASSERT(node.children == 0 && blocks_.holders(node.block) == 1);
  if (node.parent != NodeId::kRoot) --at(node.parent).children;
  const auto [begin, end] = by_key_.equal_range(prefix_key(node.parent, node.tokens));
  const auto entry = std::find_if(begin, end, [id](const auto& each) { return each.second == id; });
  MLXS_ASSERT(entry != end);
  by_key_.erase(entry);
  blocks_.release(node.block);
  unused_.push_back(id);
  --size_;
  ++evictions_;
  return id;
}

const PrefixTree::Node& PrefixTree::at(NodeId node) const {
  const auto index = static_cast<std::size_t>(node);
  MLXS_ASSERT(index < nodes_.size());
  return nodes_[index];
}

PrefixTree::Node& PrefixTree::at(NodeId node) {
  return const_cast<Node&>(std::as_const(*this).at(node));
}

void PrefixTree::link_youngest(NodeId id) {
  Node& node = at(id);
  node.older = youngest_;
  node.younger = NodeId::kRoot;
  (youngest_ == NodeId::kRoot ? oldest_ : at(youngest_).younger) = id;
  youngest_ = id;
  ++evictable_;
}

void PrefixTree::unlink(NodeId id) {
  const Node& node = at(id);
  (node.older == NodeId::kRoot ? oldest_ : at(node.older).younger) = node.younger;
  (node.younger == NodeId::kRoot ? youngest_ : at(node.younger).older) = node.older;
  --evictable_;
}

}  // namespace mlxs::engine
