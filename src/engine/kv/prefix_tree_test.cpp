#include "engine/kv/prefix_tree.h"

#include <gtest/gtest.h>

#include <cstdint>
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
  // out. FNV multiplies by 2^40 + 435: a step of 151·2^24 - 1 in the low word takes 256 from the
  // product's high half through the first term and, from a small word on, adds as much through the
  // second.
  constexpr std::uint64_t kPrime = 0x100000001B3;
  constexpr std::uint32_t kStep = 151U * (1U << 24) - 1;
  const std::uint64_t start = 0xCBF29CE484222325 ^ static_cast<std::uint32_t>(NodeId::kRoot);
  const auto low = static_cast<std::uint32_t>(start);
  const std::uint32_t one_first = low ^ 1000U;
  const std::uint32_t other_first = low ^ (1000U + kStep);
  const std::uint64_t difference =
      ((start ^ one_first) * kPrime) ^ ((start ^ other_first) * kPrime);
  ASSERT_EQ(difference >> 32, 0U);
  const Tokens one{static_cast<TokenId>(one_first), 0};
  const Tokens other{static_cast<TokenId>(other_first), static_cast<TokenId>(difference)};
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
