#include "engine/schedule/kv_space.h"

#include "base/assert.h"

#include <cstddef>

namespace mlxs::engine {
namespace {

NodeId tip(const KvHold& hold) { return hold.nodes.empty() ? NodeId::kRoot : hold.nodes.back(); }

}  // namespace

KvSpace::KvSpace(BlockPool& blocks, int block_tokens, bool keep_prefixes)
    : pool_{blocks},
      block_tokens_{block_tokens},
      keep_prefixes_{keep_prefixes},
      tree_{blocks, block_tokens} {}

std::span<const TokenId> KvSpace::block_of(std::span<const TokenId> tokens,
                                           std::size_t index) const {
  const auto size = static_cast<std::size_t>(block_tokens_);
  return tokens.subspan(index * size, size);
}

bool KvSpace::grow(KvHold& hold, int blocks) {
  const int more = blocks - static_cast<int>(hold.blocks.size());
  if (more > available()) return false;
  for (int k = 0; k < more; ++k) {
    if (pool_.free() == 0) MLXS_ASSERT(tree_.evict());
    hold.blocks.push_back(pool_.allocate().value());
  }
  return true;
}

int KvSpace::match(KvHold& hold, std::span<const TokenId> tokens, int computed, int limit) {
  if (!keep_prefixes_) return computed;
  while (static_cast<int>(hold.nodes.size() + 1) * block_tokens_ <= limit) {
    const std::size_t index = hold.nodes.size();
    const auto node = tree_.find(tip(hold), block_of(tokens, index));
    if (!node) break;
    tree_.take(*node);
    if (index < hold.blocks.size()) {
      pool_.release(hold.blocks[index]);
      hold.blocks[index] = tree_.block(*node);
    } else {
      hold.blocks.push_back(tree_.block(*node));
    }
    hold.nodes.push_back(*node);
    computed = static_cast<int>(hold.nodes.size()) * block_tokens_;
  }
  return computed;
}

int KvSpace::known(const KvHold& hold,
                   std::span<const TokenId> tokens,
                   int computed,
                   int limit) const {
  if (!keep_prefixes_) return computed;
  NodeId parent = tip(hold);
  for (std::size_t index = hold.nodes.size(); static_cast<int>(index + 1) * block_tokens_ <= limit;
       ++index) {
    const auto node = tree_.find(parent, block_of(tokens, index));
    if (!node) break;
    parent = *node;
    computed = static_cast<int>(index + 1) * block_tokens_;
  }
  return computed;
}

void KvSpace::publish(KvHold& hold, std::span<const TokenId> tokens, int computed) {
  if (!keep_prefixes_) return;
  const int full = computed / block_tokens_ * block_tokens_;
  (void)match(hold, tokens, computed, full);
  while (static_cast<int>(hold.nodes.size()) * block_tokens_ < full) {
    const std::size_t index = hold.nodes.size();
    hold.nodes.push_back(tree_.insert(tip(hold), block_of(tokens, index), hold.blocks[index]));
  }
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
  return fork;
}

void KvSpace::release(KvHold& hold) {
  while (hold.blocks.size() > hold.nodes.size()) {
    pool_.release(hold.blocks.back());
    hold.blocks.pop_back();
  }
  for (; !hold.nodes.empty(); hold.nodes.pop_back()) tree_.give_back(hold.nodes.back());
  hold.blocks.clear();
}

bool KvSpace::writable(const KvHold& hold, int computed) const {
  for (auto k = static_cast<std::size_t>(computed / block_tokens_); k < hold.blocks.size(); ++k)
    if (pool_.holders(hold.blocks[k]) != 1) return false;
  return true;
}

}  // namespace mlxs::engine
