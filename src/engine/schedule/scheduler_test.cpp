#include "engine/schedule/scheduler_fixture.h"

#include <gmock/gmock.h>

#include <chrono>
#include <numeric>
#include <vector>

// What holds for all sequences of calls is tested in tests/sim; here are the decisions one by one.

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(SchedulerTest, PlansNothingWithoutSequences) {
  make();

  EXPECT_TRUE(scheduler->plan().empty());
  EXPECT_TRUE(scheduler->idle());
}

TEST_F(SchedulerTest, WhatHasNoRowInTimeGoesUnlessItHasDrawnAlready) {
  make(100, 16, 1, 8);
  const auto with_row_deadline = [&](std::uint64_t id, std::vector<SequenceId> more = {}) {
    more.insert(more.begin(), SequenceId{id});
    ASSERT_TRUE(scheduler->submit({.choices = more,
                                   .prompt = {static_cast<TokenId>(id)},
                                   .completion_tokens_max = 100,
                                   .row_deadline = Deadline::at(TimePoint{} + 50ms)}));
  };
  with_row_deadline(1, {SequenceId{2}});
  (void)step();  // both have their first token, and only one its row
  with_row_deadline(3);
  ASSERT_TRUE(submit(4, 1));

  EXPECT_THAT(scheduler->overdue(TimePoint{} + 49ms), IsEmpty());
  EXPECT_THAT(scheduler->overdue(TimePoint{} + 50ms), ElementsAre(SequenceId{3}));
  EXPECT_EQ(scheduler->running() + scheduler->waiting(), 3);
}

TEST_F(SchedulerTest, StartsAPromptAtOnceAndThenDecodes) {
  make();
  ASSERT_TRUE(submit(1, 5));

  const StepPlan prefill = step();
  EXPECT_THAT(prefill.step.tokens, ElementsAre(1, 1, 1, 1, 1));
  EXPECT_THAT(prefill.step.logits_at, ElementsAre(4));
  EXPECT_EQ(prefill.draws.at(0).position, 5);
  EXPECT_EQ(prefill.prefill_tokens, 5);

  const StepPlan decode = step();
  EXPECT_THAT(decode.step.tokens, ElementsAre(7));
  EXPECT_EQ(decode.step.segments.at(0).kv_len, 6);
  EXPECT_EQ(decode.step.segments.at(0).blocks.size(), 2u);
  EXPECT_EQ(decode.draws.at(0).position, 6);
  EXPECT_EQ(decode.prefill_tokens, 0);
}

TEST_F(SchedulerTest, ChunksALongPromptAndDrawsAfterItsLastChunkOnly) {
  make();
  ASSERT_TRUE(submit(1, 40));

  const StepPlan first = step();
  const StepPlan second = step();
  const StepPlan third = step();

  EXPECT_THAT(lengths(first), ElementsAre(16));
  EXPECT_THAT(first.draws, IsEmpty());
  EXPECT_THAT(lengths(second), ElementsAre(16));
  EXPECT_THAT(second.step.logits_at, IsEmpty());
  EXPECT_THAT(lengths(third), ElementsAre(8));
  EXPECT_THAT(third.step.logits_at, ElementsAre(7));
}

TEST_F(SchedulerTest, AsksForLogitsAtEveryPositionOfAPromptThatWantsThemAndDrawsFromTheLast) {
  make();
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}},
                                 .prompt = std::vector<TokenId>(20, 3),
                                 .completion_tokens_max = 4,
                                 .prompt_logits = true}));
  std::vector<int> predicted;
  std::vector<int> first_logits;
  for (int k = 0; k < 2; ++k) {
    const StepPlan plan = step();
    for (const PromptRow& row : plan.prompt_rows) predicted.push_back(row.position);
    first_logits.push_back(plan.step.logits_at.at(0));
    EXPECT_EQ(plan.draws.size(), k == 0 ? 0u : 1u);
    if (k == 1) {
      EXPECT_EQ(plan.draws.at(0).logits_row, 3);
    }
  }

  std::vector<int> all(19);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(predicted, all);
  EXPECT_THAT(first_logits, ElementsAre(0, 0));
  EXPECT_THAT(step().prompt_rows, IsEmpty());
}

// R-ENG-5
TEST_F(SchedulerTest, PrefillsSeveralPromptsTogetherAndLetsShortOnesPass) {
  make();
  ASSERT_TRUE(submit(1, 100));
  ASSERT_TRUE(submit(2, 3));
  ASSERT_TRUE(submit(3, 4));

  const StepPlan plan = step();

  EXPECT_THAT(rows(plan), ElementsAre(1, 2, 3));
  EXPECT_THAT(lengths(plan), ElementsAre(9, 3, 4));
  EXPECT_EQ(plan.draws.size(), 2u);
}

TEST_F(SchedulerTest, TakesDecodeRowsFirstAndPromptsWithTheRest) {
  make();
  ASSERT_TRUE(submit(1, 3));
  ASSERT_TRUE(submit(2, 3));
  (void)step();
  ASSERT_TRUE(submit(3, 100));

  const StepPlan plan = step();

  EXPECT_THAT(rows(plan), ElementsAre(1, 2, 3));
  EXPECT_THAT(lengths(plan), ElementsAre(1, 1, 14));
}

// R-ENG-5
TEST_F(SchedulerTest, KeepsAQuarterOfTheBudgetForPromptsWhileDecodeRowsTakeTurns) {
  make(100, 8, 16, 0);
  for (int id = 1; id <= 8; ++id) ASSERT_TRUE(submit(id, 1));
  EXPECT_EQ(step().rows.size(), 8u);
  ASSERT_TRUE(submit(9, 50));

  EXPECT_THAT(rows(step()), ElementsAre(1, 2, 3, 4, 5, 6, 9));
  const StepPlan second = step();

  EXPECT_THAT(rows(second), ElementsAre(1, 2, 3, 4, 7, 8, 9));
  EXPECT_EQ(second.prefill_tokens, 2);
}

TEST_F(SchedulerTest, RowsThatKeepArrivingDoNotHoldUpADecodeRow) {
  make(100, 2, 8, 0);
  ASSERT_TRUE(submit(1, 1));
  ASSERT_TRUE(submit(2, 1));
  ASSERT_TRUE(submit(3, 100));  // leaves room for one decode row a step
  (void)step();
  std::vector<int> served;

  for (int id = 4; id < 8; ++id) {
    ASSERT_TRUE(submit(id, 1));  // wants to decode at once
    served.push_back(rows(step()).front());
    ASSERT_TRUE(scheduler->cancel(SequenceId{static_cast<std::uint64_t>(id)}));
  }

  EXPECT_THAT(served, ElementsAre(1, 2, 1, 2));
}

TEST_F(SchedulerTest, RunsNoMoreRowsThanMayAndAdmitsTheNextWhenOneEnds) {
  make(100, 16, 2, 8);
  for (int id = 1; id <= 3; ++id) ASSERT_TRUE(submit(id, 2));
  EXPECT_THAT(rows(scheduler->plan()), ElementsAre(1, 2));
  scheduler->commit(std::vector<Drawn>{{.token = 7, .ended = true}, {.token = 7, .ended = false}});

  EXPECT_THAT(rows(step()), ElementsAre(2, 3));
}

TEST_F(SchedulerTest, LeavesABlockForEachRunningRowBeforeItAdmits) {
  make(6);
  ASSERT_TRUE(submit(1, 12));  // three blocks
  ASSERT_TRUE(submit(2, 9));   // three more: none would be left for the first
  EXPECT_THAT(rows(step()), ElementsAre(1));
  EXPECT_EQ(scheduler->waiting(), 1);

  ASSERT_TRUE(scheduler->cancel(SequenceId{2}));
  ASSERT_TRUE(submit(3, 5));  // two blocks leave two, and the first takes one
  EXPECT_THAT(rows(step()), ElementsAre(1, 3));
}

TEST_F(SchedulerTest, AdmitsWhatFillsAllBlocksWhenItIsAlone) {
  make(4);
  ASSERT_TRUE(submit(1, 16));

  EXPECT_THAT(lengths(scheduler->plan()), ElementsAre(16));
  EXPECT_EQ(pool->free(), 0);
}

TEST_F(SchedulerTest, PreemptsTheLastWhenBlocksRunOutAndPrefillsWhatIsNoLongerFound) {
  make(4);
  ASSERT_TRUE(submit(1, 3));
  ASSERT_TRUE(submit(2, 3));
  for (int k = 0; k < 6; ++k) EXPECT_THAT(rows(step()), ElementsAre(1, 2));

  EXPECT_THAT(rows(step()),
              ElementsAre(1));  // both are at their ninth position, with 4 blocks in all
  EXPECT_EQ(scheduler->counts().preemptions, 1u);
  EXPECT_EQ(scheduler->waiting(), 1);
  EXPECT_EQ(scheduler->queued_prefill_tokens(), 9);

  ASSERT_TRUE(scheduler->cancel(SequenceId{1}));
  const StepPlan again = step();
  // The first took the second's last block, which nobody used any more; the one before is found.
  EXPECT_THAT(again.step.tokens, ElementsAre(7, 7, 7, 7, 7));
  EXPECT_EQ(again.step.segments.at(0).kv_len, 9);
  EXPECT_EQ(again.draws.at(0).position, 9);
}

TEST_F(SchedulerTest, APreemptedSequenceGoesBeforeThoseThatWait) {
  make(4);
  ASSERT_TRUE(submit(1, 3));
  ASSERT_TRUE(submit(2, 3));
  ASSERT_TRUE(submit(3, 16));
  for (int k = 0; k < 7; ++k) (void)step();
  ASSERT_EQ(scheduler->counts().preemptions, 1u);

  ASSERT_TRUE(scheduler->cancel(SequenceId{1}));

  EXPECT_THAT(rows(step()), ElementsAre(2));
}

TEST_F(SchedulerTest, RefusesWhatIsBeyondItsBoundAndTakesItWhenOneIsGone) {
  make(100, 16, 1, 1);
  ASSERT_TRUE(submit(1, 2));
  ASSERT_TRUE(submit(2, 2));
  const auto refused = submit(3, 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);

  EXPECT_TRUE(scheduler->cancel(SequenceId{2}));

  EXPECT_TRUE(submit(3, 2));
}

TEST_F(SchedulerTest, RefusesWhatCanNeverFit) {
  make(4);

  EXPECT_EQ(submit(1, 17).error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(submit(1, 200).error().code, ErrorCode::kContextLengthExceeded);
  EXPECT_TRUE(scheduler->idle());
}

TEST_F(SchedulerTest, CancelFreesBlocksOfRunningAndPlacesOfWaiting) {
  make(100, 16, 1);
  ASSERT_TRUE(submit(1, 10));
  ASSERT_TRUE(submit(2, 10));
  (void)step();

  EXPECT_TRUE(scheduler->cancel(SequenceId{2}));
  EXPECT_TRUE(scheduler->cancel(SequenceId{1}));
  EXPECT_FALSE(scheduler->cancel(SequenceId{1}));

  EXPECT_TRUE(scheduler->idle());
  EXPECT_EQ(available(), pool->total());
}

TEST_F(SchedulerTest, ExpiresRunningAndWaitingByTheTimeItIsTold) {
  make(100, 16, 1);
  const TimePoint start{};
  ASSERT_TRUE(submit(1, 2, 10, Deadline::at(start + 10ms)));
  ASSERT_TRUE(submit(2, 2, 10, Deadline::at(start + 5ms)));
  ASSERT_TRUE(submit(3, 2));
  (void)step();

  EXPECT_THAT(scheduler->expire(start + 4ms), IsEmpty());
  EXPECT_THAT(scheduler->expire(start + 5ms), ElementsAre(SequenceId{2}));
  EXPECT_THAT(scheduler->expire(start + 1h), ElementsAre(SequenceId{1}));
  EXPECT_THAT(rows(step()), ElementsAre(3));
}

TEST_F(SchedulerTest, AbortRemovesTheSequencesOfTheStepAndNoOthers) {
  make(100, 16, 2);
  for (int id = 1; id <= 3; ++id) ASSERT_TRUE(submit(id, 2));
  EXPECT_THAT(rows(scheduler->plan()), ElementsAre(1, 2));

  EXPECT_THAT(scheduler->abort(), ElementsAre(SequenceId{1}, SequenceId{2}));

  EXPECT_EQ(available(), pool->total());
  EXPECT_THAT(rows(step()), ElementsAre(3));
}

TEST_F(SchedulerTest, CountsTheTokensStillToPrefill) {
  make();
  ASSERT_TRUE(submit(1, 40));
  ASSERT_TRUE(submit(2, 2));
  EXPECT_EQ(scheduler->queued_prefill_tokens(), 42);

  (void)step();

  EXPECT_EQ(scheduler->queued_prefill_tokens(), 26);
}

using SchedulerDeathTest = SchedulerTest;

TEST_F(SchedulerDeathTest, DiesWhenASequenceGoesOnPastItsMaximum) {
  make();
  ASSERT_TRUE(submit(1, 2, 1));
  (void)scheduler->plan();

  EXPECT_DEATH(scheduler->commit(std::vector<Drawn>{{.token = 7, .ended = false}}), "tokens_max");
}

}  // namespace
}  // namespace mlxs::engine
