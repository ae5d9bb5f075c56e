#include "engine/kv/window_blocks.h"

#include <gtest/gtest.h>

namespace mlxs::engine {
namespace {

TEST(WindowBlocks, AreSeenAsFarBackAsTheWindowReaches) {
  const WindowBlocks blocks({.tokens = 9, .blocks_total = 1}, 4);
  EXPECT_EQ(blocks.first_seen(0), 0);
  EXPECT_EQ(blocks.first_seen(2), 0);
  EXPECT_EQ(blocks.first_seen(3), 1);  // position 12 sees 4 and on
  const WindowBlocks wider({.tokens = 10, .blocks_total = 1}, 4);
  EXPECT_EQ(wider.first_seen(3), 0);  // position 12 sees 3 and on
  const WindowBlocks self({.tokens = 1, .blocks_total = 1}, 4);
  EXPECT_EQ(self.first_seen(3), 3);
}

TEST(WindowBlocks, AKeptBlockOutlivesItsHoldersUntilItsMemoryIsNeeded) {
  WindowBlocks blocks({.tokens = 8, .blocks_total = 2}, 4);
  const BlockId first = blocks.allocate();
  const BlockId second = blocks.allocate();
  blocks.keep(NodeId{1}, first);
  blocks.keep(NodeId{2}, second);
  blocks.release(second);
  blocks.release(first);
  EXPECT_EQ(blocks.evictable(), 2);

  EXPECT_EQ(blocks.take(NodeId{2}), second);
  blocks.release(second);
  EXPECT_EQ(blocks.allocate(), first);  // unused for longer now

  EXPECT_FALSE(blocks.keeps(NodeId{1}));
  EXPECT_TRUE(blocks.keeps(NodeId{2}));
  EXPECT_EQ(blocks.kept(), 1);
}

TEST(WindowBlocks, ForgettingANodeFreesItsBlock) {
  WindowBlocks blocks({.tokens = 8, .blocks_total = 3}, 4);
  const BlockId block = blocks.allocate();
  blocks.keep(NodeId{1}, block);
  blocks.release(block);

  blocks.forget(NodeId{1});
  blocks.forget(NodeId{7});  // has none

  EXPECT_EQ(blocks.pool().free(), 3);
  EXPECT_EQ(blocks.evictable(), 0);
}

TEST(WindowBlocks, TheLastHolderOfABlockThatNobodyKeepsFreesIt) {
  WindowBlocks blocks({.tokens = 8, .blocks_total = 1}, 4);
  const BlockId block = blocks.allocate();
  blocks.retain(block);
  blocks.release(block);
  EXPECT_EQ(blocks.pool().free(), 0);
  blocks.release(block);
  EXPECT_EQ(blocks.pool().free(), 1);
}

}  // namespace
}  // namespace mlxs::engine
