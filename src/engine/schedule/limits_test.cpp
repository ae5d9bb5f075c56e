#include "engine/schedule/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace mlxs::engine {
namespace {

using ::testing::HasSubstr;

SchedulerLimits limits_of(int context_tokens_max, int block_tokens, int blocks_total) {
  return {.sequences_max = 4,
          .waiting_max = 4,
          .step_tokens_max = 16,
          .context_tokens_max = context_tokens_max,
          .block_tokens = block_tokens,
          .blocks_total = blocks_total};
}

TEST(SchedulerLimits, LeaveACompletionAsItIsWhereItFits) {
  EXPECT_EQ(limits_of(100, 4, 100).completion_tokens(60, 40).value(), 40);
}

TEST(SchedulerLimits, CutACompletionToTheContext) {
  EXPECT_EQ(limits_of(100, 4, 100).completion_tokens(60, 41).value(), 40);
  EXPECT_EQ(limits_of(100, 4, 100).completion_tokens(99, std::numeric_limits<int>::max()).value(),
            1);
}

TEST(SchedulerLimits, CutACompletionToTheBlocksWhoseLastTokenNeedsNone) {
  EXPECT_EQ(limits_of(100, 4, 5).completion_tokens(20, 50).value(), 1);
  EXPECT_EQ(limits_of(100, 4, 5).completion_tokens(12, 50).value(), 9);
}

TEST(SchedulerLimits, RefuseAPromptThatFillsTheContextInOpenAiWords) {
  const auto refused = limits_of(100, 4, 100).completion_tokens(100, 1);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kContextLengthExceeded);
  EXPECT_THAT(
      refused.error().message,
      HasSubstr("This model's maximum context length is 100 tokens. However, you requested 101 "
                "tokens (100 in the prompt"));
}

TEST(SchedulerLimits, RefuseAPromptThatNoBlocksHold) {
  const auto refused = limits_of(100, 4, 5).completion_tokens(21, 1);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
}

TEST(SchedulerLimits, NameTheValueThatMakesNoSense) {
  EXPECT_TRUE(limits_of(100, 4, 5).validate());
  for (int SchedulerLimits::* member : {&SchedulerLimits::sequences_max,
                                        &SchedulerLimits::step_tokens_max,
                                        &SchedulerLimits::context_tokens_max,
                                        &SchedulerLimits::block_tokens,
                                        &SchedulerLimits::blocks_total}) {
    SchedulerLimits limits = limits_of(100, 4, 5);
    limits.*member = 0;

    const auto refused = limits.validate();

    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
    EXPECT_FALSE(refused.error().param.empty());
  }
  SchedulerLimits no_queue = limits_of(100, 4, 5);
  no_queue.waiting_max = 0;
  EXPECT_TRUE(no_queue.validate());
}

TEST(SchedulerLimits, RoundPositionsUpToBlocks) {
  const SchedulerLimits limits = limits_of(100, 4, 5);

  EXPECT_EQ(limits.blocks_for(0), 0);
  EXPECT_EQ(limits.blocks_for(1), 1);
  EXPECT_EQ(limits.blocks_for(4), 1);
  EXPECT_EQ(limits.blocks_for(5), 2);
}

}  // namespace
}  // namespace mlxs::engine
