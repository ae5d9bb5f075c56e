#include "engine/schedule/scheduler_fixture.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>
#include <vector>

// Layers that see a window only: which blocks a sequence keeps of them, and what of a prefix can be
// taken without the rest. That all of it is right for any traffic is tested in tests/sim.

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;

/// Blocks of four positions, and layers that see eight.
class WindowsTest : public SchedulerTest {
 protected:
  void make_with_window(int blocks_total, int window_blocks, int sequences_max = 1) {
    make(blocks_total, 16, sequences_max);
    limits.windows = {{.tokens = 8, .blocks_total = window_blocks}};
    ASSERT_TRUE(limits.validate());
    scheduler.emplace(limits, *pool);
  }
  Result<void> submit_tokens(int id, std::vector<TokenId> prompt) {
    return scheduler->submit({.choices = {SequenceId{static_cast<std::uint64_t>(id)}},
                              .prompt = std::move(prompt),
                              .completion_tokens_max = 100});
  }
  void prefill(int id, int tokens) {
    ASSERT_TRUE(submit(id, tokens));
    while (step().draws.empty()) {
    }
  }
  [[nodiscard]] int held() const {
    const WindowBlocks& window = scheduler->windows().front();
    return window.pool().total() - window.pool().free() - window.evictable();
  }
};

// R-ENG-4: memory of a long sequence stays bounded where layers have windows.
TEST_F(WindowsTest, ALongSequenceHoldsAWindowAndAChunkHoweverLongItGets) {
  for (const bool prefix_cache : {true, false}) {
    make_with_window(50, 8);
    limits.prefix_cache = prefix_cache;
    scheduler.emplace(limits, *pool);
    ASSERT_TRUE(submit(1, 90));
    int steps = 0;
    for (; steps < 100; ++steps) {
      const StepPlan& plan = scheduler->plan();
      const Segment& segment = plan.step.segments.at(0);
      EXPECT_LE(held(), 8 / 4 + limits.blocks_for(segment.q_len) + 1);
      EXPECT_EQ(segment.window_blocks.at(0).size(), segment.blocks.size());
      scheduler->commit(std::vector<Drawn>(plan.draws.size(), {.token = 7, .ended = false}));
      EXPECT_LE(held(), 8 / 4 + 1);
    }
    EXPECT_EQ(pool->total() - pool->free(), (90 + 100 - 6 + 3) / 4);  // the others keep all
  }
}

TEST_F(WindowsTest, ATableStandsInForWhatIsGoneWithTheFirstBlockThatIsNot) {
  make_with_window(50, 8);
  prefill(1, 30);

  const StepPlan plan = step();

  const std::vector<BlockId>& table = plan.step.segments.at(0).window_blocks.at(0);
  ASSERT_EQ(table.size(), 8u);  // 31 positions, of which the last sees from 23 on
  EXPECT_EQ(std::set<BlockId>(table.begin(), table.end()).size(), 3u);
  for (int k = 0; k < 5; ++k) EXPECT_EQ(table.at(static_cast<std::size_t>(k)), table.at(5));
}

TEST_F(WindowsTest, APrefixIsTakenWhereTheBlocksItsWindowSeesAreStillThere) {
  make_with_window(50, 8);
  prefill(1, 24);
  EXPECT_TRUE(scheduler->cancel(SequenceId{1}));

  ASSERT_TRUE(submit_tokens(2, std::vector<TokenId>(24, 1)));

  EXPECT_EQ(step().draws.at(0).cached_tokens, 20);
}

TEST_F(WindowsTest, APrefixWhoseWindowIsGoneIsComputedOnceMoreAndKeptAgain) {
  make_with_window(50, 8);
  prefill(1, 24);
  EXPECT_TRUE(scheduler->cancel(SequenceId{1}));
  prefill(2, 60);  // needs all blocks of the window, but not all of the others
  EXPECT_TRUE(scheduler->cancel(SequenceId{2}));
  EXPECT_EQ(scheduler->prefixes().evictions(), 0u);

  for (const int cached : {0, 20}) {
    ASSERT_TRUE(submit_tokens(3, std::vector<TokenId>(24, 1)));
    StepPlan plan = step();
    while (plan.draws.empty()) plan = step();
    EXPECT_EQ(plan.draws.at(0).cached_tokens, cached);
    EXPECT_TRUE(scheduler->cancel(SequenceId{3}));
  }
  scheduler->verify();
}

TEST_F(WindowsTest, ChoicesShareWhatTheirNextTokensSee) {
  make_with_window(50, 30, 3);
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}, SequenceId{2}, SequenceId{3}},
                                 .prompt = std::vector<TokenId>(14, 5),
                                 .completion_tokens_max = 9}));
  (void)step();

  const StepPlan plan = step();

  ASSERT_THAT(lengths(plan), ElementsAre(1, 3, 3));
  const auto table = [&](std::size_t row) { return plan.step.segments[row].window_blocks.at(0); };
  EXPECT_EQ(table(0).at(2), table(1).at(2));
  EXPECT_EQ(table(1).at(2), table(2).at(2));
  EXPECT_NE(table(1).at(3), table(2).at(3));
  EXPECT_EQ(held(), 2 + 3);  // positions 4 to 11 once, and a block each
  scheduler->verify();
}

TEST_F(WindowsTest, EvictingAPrefixFreesItsBlocksOfAllLayers) {
  make_with_window(8, 8);
  prefill(1, 30);
  EXPECT_TRUE(scheduler->cancel(SequenceId{1}));
  EXPECT_EQ(scheduler->windows().front().kept(), scheduler->prefixes().size());
  ASSERT_TRUE(submit_tokens(2, std::vector<TokenId>(30, 2)));
  (void)step();
  (void)step();

  EXPECT_EQ(scheduler->prefixes().size(), 7);  // all of the second's by now
  EXPECT_EQ(scheduler->windows().front().kept(), 7);
  scheduler->verify();
}

TEST_F(WindowsTest, LimitsRefuseAWindowWhoseBlocksCouldRunOutFirst) {
  make();
  limits.windows = {{.tokens = 8, .blocks_total = 35}};  // 8 rows of 2 + 2, and 4 for chunks
  const auto refused = limits.validate();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "windows");
  limits.windows[0].blocks_total = 36;
  EXPECT_TRUE(limits.validate());
  limits.windows[0].blocks_total = 5;
  limits.blocks_total = 5;  // as many as there are of the others
  EXPECT_TRUE(limits.validate());
}

}  // namespace
}  // namespace mlxs::engine
