#include "engine/kv/prefix_tree.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace mlxs::engine {
namespace {

using Tokens = std::vector<TokenId>;

class PrefixTreeTest : public ::testing::Test {
 protected:
  NodeId add(NodeId parent, const Tokens& tokens) {
    return tree.insert(parent, tokens, pool.allocate().value());
  }

  BlockPool pool{8};
  PrefixTree tree{pool, 2};
};

TEST_F(PrefixTreeTest, FindsABlockByItsTokensAndAllBeforeIt) {
  const NodeId a = add(NodeId::kRoot, {1, 2});
  const NodeId b = add(a, {3, 4});
  const NodeId c = add(NodeId::kRoot, {3, 4});

  EXPECT_EQ(tree.find(NodeId::kRoot, Tokens{1, 2}), a);
  EXPECT_EQ(tree.find(a, Tokens{3, 4}), b);
  EXPECT_EQ(tree.find(NodeId::kRoot, Tokens{3, 4}), c);
  EXPECT_EQ(tree.find(NodeId::kRoot, Tokens{2, 1}), std::nullopt);
  EXPECT_EQ(tree.find(c, Tokens{3, 4}), std::nullopt);
  EXPECT_EQ(tree.size(), 3);
}

TEST_F(PrefixTreeTest, ComparesTokensAndNotOnlyTheirHashes) {
  // Two first tokens after which the hash differs in its low half only, which a second one evens
  // out. Such a pair is among the first few hundred thousand, by the birthday of 32 bits.
  std::unordered_map<std::uint32_t, std::uint64_t> seen;
  Tokens one;
  Tokens other;
  for (TokenId token = 0; other.empty(); ++token) {
    const std::uint64_t hash =
        (0xCBF29CE484222325 ^ 0xFFFFFFFF ^ static_cast<std::uint32_t>(token)) * 0x100000001B3;
    const auto high = static_cast<std::uint32_t>(hash >> 32);
    const auto found = seen.find(high);
    if (found == seen.end()) {
      seen.emplace(high, hash);
      continue;
    }
    for (TokenId first = 0; first < token; ++first) {
      const std::uint64_t first_hash =
          (0xCBF29CE484222325 ^ 0xFFFFFFFF ^ static_cast<std::uint32_t>(first)) * 0x100000001B3;
      if (first_hash != found->second) continue;
      one = {first, 0};
      other = {token, static_cast<TokenId>(static_cast<std::uint32_t>(hash ^ first_hash))};
    }
  }
  ASSERT_EQ(prefix_key(NodeId::kRoot, one), prefix_key(NodeId::kRoot, other));
  const NodeId node = add(NodeId::kRoot, one);

  EXPECT_EQ(tree.find(NodeId::kRoot, other), std::nullopt);
  const NodeId second = add(NodeId::kRoot, other);
  EXPECT_EQ(tree.find(NodeId::kRoot, one), node);
  EXPECT_EQ(tree.find(NodeId::kRoot, other), second);
}

TEST_F(PrefixTreeTest, KeepsABlockThatNobodyUsesUntilItIsEvicted) {
  const NodeId a = add(NodeId::kRoot, {1, 2});
  EXPECT_EQ(pool.holders(tree.block(a)), 2);
  EXPECT_FALSE(tree.evict());

  tree.give_back(a);

  EXPECT_EQ(tree.evictable(), 1);
  EXPECT_EQ(pool.free(), 7);
  EXPECT_TRUE(tree.find(NodeId::kRoot, Tokens{1, 2}));
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(pool.free(), 8);
  EXPECT_FALSE(tree.find(NodeId::kRoot, Tokens{1, 2}));
  EXPECT_FALSE(tree.evict());
  EXPECT_EQ(tree.evictions(), 1u);
}

TEST_F(PrefixTreeTest, EvictsTheLeastRecentlyUsedAndChildrenBeforeParents) {
  const NodeId a = add(NodeId::kRoot, {1, 1});
  const NodeId a2 = add(a, {1, 2});
  const NodeId b = add(NodeId::kRoot, {2, 2});
  tree.give_back(a2);
  tree.give_back(a);
  tree.give_back(b);
  tree.take(a);  // used again, without its child
  tree.give_back(a);

  ASSERT_TRUE(tree.evict());
  EXPECT_FALSE(tree.find(a, Tokens{1, 2}));
  ASSERT_TRUE(tree.evict());
  EXPECT_FALSE(tree.find(NodeId::kRoot, Tokens{2, 2}));
  EXPECT_TRUE(tree.find(NodeId::kRoot, Tokens{1, 1}));
}

TEST_F(PrefixTreeTest, ATakenBlockIsNotEvicted) {
  const NodeId a = add(NodeId::kRoot, {1, 1});
  tree.give_back(a);
  tree.take(a);
  tree.take(a);

  EXPECT_FALSE(tree.evict());
  tree.give_back(a);
  EXPECT_FALSE(tree.evict());
  EXPECT_EQ(pool.holders(tree.block(a)), 2);
}

using PrefixTreeDeathTest = PrefixTreeTest;

TEST_F(PrefixTreeDeathTest, DiesWhenAParentIsNotTaken) {
  const NodeId a = add(NodeId::kRoot, {1, 1});
  const NodeId b = add(a, {2, 2});
  tree.give_back(b);
  tree.give_back(a);

  EXPECT_DEATH(tree.take(b), "takers > 0");
  EXPECT_DEATH(tree.give_back(a), "takers > 0");
}

}  // namespace
}  // namespace mlxs::engine
