#include "engine/kv/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace mlxs::engine {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnceAndThenNothing) {
  BlockPool pool{5};
  std::set<BlockId> seen;

  for (int k = 0; k < 5; ++k) seen.insert(pool.allocate().value());

  EXPECT_EQ(seen.size(), 5u);
  EXPECT_EQ(pool.free(), 0);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  EXPECT_EQ(pool.allocations(), 5u);
}

TEST(BlockPool, FreesASharedBlockWithItsLastHolder) {
  BlockPool pool{2};
  const BlockId block = pool.allocate().value();
  pool.retain(block);

  pool.release(block);
  EXPECT_EQ(pool.holders(block), 1);
  EXPECT_EQ(pool.free(), 1);

  pool.release(block);
  EXPECT_EQ(pool.holders(block), 0);
  EXPECT_EQ(pool.free(), 2);
}

TEST(BlockPool, ReusesTheBlockFreedLast) {
  BlockPool pool{3};
  const BlockId first = pool.allocate().value();
  (void)pool.allocate();

  pool.release(first);

  EXPECT_EQ(pool.allocate(), first);
}

using BlockPoolDeathTest = ::testing::Test;

TEST(BlockPoolDeathTest, DiesOnADoubleFree) {
  BlockPool pool{2};
  const BlockId block = pool.allocate().value();
  pool.release(block);

  EXPECT_DEATH(pool.release(block), "count > 0");
}

TEST(BlockPoolDeathTest, DiesOnSharingAFreeBlockAndOnABlockItDoesNotHave) {
  BlockPool pool{2};

  EXPECT_DEATH(pool.retain(BlockId{0}), "count > 0");
  EXPECT_DEATH(pool.release(BlockId{2}), "holders_.size");
}

}  // namespace
}  // namespace mlxs::engine
