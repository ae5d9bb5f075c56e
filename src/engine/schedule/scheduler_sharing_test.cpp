#include "engine/schedule/scheduler_fixture.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

// What rows share: blocks, prompts, ranks and the time of a step.

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(SchedulerTest, TakesWhatItKnowsOfAPromptAndComputesOneTokenAtLeast) {
  make();
  ASSERT_TRUE(submit(1, 8));
  (void)step();
  EXPECT_TRUE(scheduler->cancel(SequenceId{1}));

  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{2}},
                                 .prompt = std::vector<TokenId>(8, 1),
                                 .completion_tokens_max = 4}));
  const StepPlan plan = step();

  EXPECT_THAT(plan.step.tokens, ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(plan.step.segments.at(0).kv_len, 8);
  EXPECT_EQ(plan.draws.at(0).cached_tokens, 4);
  EXPECT_EQ(scheduler->counts().prefix_queries, 16u);
  EXPECT_EQ(scheduler->counts().prefix_hits, 4u);
}

TEST_F(SchedulerTest, WithoutThePrefixCacheEveryPromptIsComputedWhole) {
  make();
  limits.prefix_cache = false;
  scheduler.emplace(limits, *pool);
  for (int k = 0; k < 2; ++k) {
    ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}},
                                   .prompt = std::vector<TokenId>(8, 1),
                                   .completion_tokens_max = 4}));
    EXPECT_THAT(lengths(step()), ElementsAre(8));
    EXPECT_TRUE(scheduler->cancel(SequenceId{1}));
  }
  EXPECT_EQ(pool->free(), pool->total());
  EXPECT_EQ(scheduler->counts().prefix_queries, 0u);
}

TEST_F(SchedulerTest, OfPromptsThatBeginAlikeOneComputesAndTheOthersTakeItsBlocks) {
  make();
  for (std::uint64_t id = 1; id <= 3; ++id) {
    std::vector<TokenId> prompt(10, 5);
    prompt.push_back(static_cast<TokenId>(id));
    ASSERT_TRUE(scheduler->submit(
        {.choices = {SequenceId{id}}, .prompt = prompt, .completion_tokens_max = 4}));
  }

  EXPECT_THAT(rows(step()), ElementsAre(1));
  const StepPlan second = step();

  EXPECT_THAT(lengths(second), ElementsAre(1, 3, 3));  // one decodes, two have their tails left
  EXPECT_EQ(second.step.segments.at(0).blocks.at(1), second.step.segments.at(2).blocks.at(1));
  EXPECT_NE(second.step.segments.at(1).blocks.at(2), second.step.segments.at(2).blocks.at(2));
}

TEST_F(SchedulerTest, PrefillsAPromptOnceForAllItsChoicesWhichThenShareItsFullBlocks) {
  make();
  limits.prefix_cache = false;  // choices share all the same
  scheduler.emplace(limits, *pool);
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}, SequenceId{2}, SequenceId{3}},
                                 .prompt = std::vector<TokenId>(10, 5),
                                 .completion_tokens_max = 4}));
  EXPECT_EQ(scheduler->waiting(), 3);

  const StepPlan first = step();
  EXPECT_THAT(lengths(first), ElementsAre(10));
  ASSERT_EQ(first.draws.size(), 3u);
  for (const Draw& draw : first.draws) EXPECT_EQ(draw.logits_row, 0);
  EXPECT_EQ(scheduler->running(), 3);

  const StepPlan second = step();
  EXPECT_THAT(rows(second), ElementsAre(1, 2, 3));
  EXPECT_THAT(lengths(second), ElementsAre(1, 3, 3));  // the tail of the prompt and a token
  EXPECT_THAT(lengths(step()), ElementsAre(1, 1, 1));
  // Two full blocks together, and a block of its own for each.
  EXPECT_EQ(pool->total() - pool->free(), 5);
}

TEST_F(SchedulerTest, AChoiceThatIsCancelledOrEndsAtOnceTakesNoOtherWithIt) {
  make();
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}, SequenceId{2}, SequenceId{3}},
                                 .prompt = std::vector<TokenId>(10, 5),
                                 .completion_tokens_max = 4}));
  ASSERT_TRUE(scheduler->cancel(SequenceId{1}));

  ASSERT_EQ(scheduler->plan().draws.size(), 2u);
  scheduler->commit(std::vector<Drawn>{{.token = 7, .ended = true}, {.token = 7, .ended = false}});

  EXPECT_THAT(rows(step()), ElementsAre(3));
  EXPECT_EQ(scheduler->running() + scheduler->waiting(), 1);
}

TEST_F(SchedulerTest, AChoiceWithoutARowOfItsOwnWaitsAndGoesOnLater) {
  make(100, 16, 2, 8);
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}, SequenceId{2}, SequenceId{3}},
                                 .prompt = std::vector<TokenId>(8, 5),
                                 .completion_tokens_max = 4}));
  (void)step();
  EXPECT_THAT(rows(step()), ElementsAre(1, 2));
  ASSERT_TRUE(scheduler->cancel(SequenceId{1}));

  const StepPlan plan = step();

  EXPECT_THAT(rows(plan), ElementsAre(2, 3));
  EXPECT_EQ(plan.draws.at(1).position, 9);
}

TEST_F(SchedulerTest, AHigherClassGoesFirstButForThoseThatWaitedLonger) {
  make(100, 16, 1, 8);
  limits.class_steps = 3;
  scheduler.emplace(limits, *pool);
  const auto submit_as = [&](int id, Priority priority) {
    ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{static_cast<std::uint64_t>(id)}},
                                   .prompt = {id},
                                   .completion_tokens_max = 100,
                                   .priority = priority}));
  };
  submit_as(1, Priority::kHigh);
  (void)step();
  submit_as(2, Priority::kLow);
  submit_as(3, Priority::kNormal);
  submit_as(4, Priority::kHigh);
  for (int k = 0; k < 4; ++k) (void)step();
  submit_as(5, Priority::kHigh);  // four steps after 3: more than one class is worth
  submit_as(6, Priority::kNormal);

  std::vector<int> order;
  for (int k = 0; k < 6; ++k) {
    order.push_back(rows(step()).at(0));
    ASSERT_TRUE(scheduler->cancel(SequenceId{static_cast<std::uint64_t>(order.back())}));
  }

  EXPECT_THAT(order, ElementsAre(1, 4, 3, 5, 2, 6));
}

TEST_F(SchedulerTest, PreemptsALowerClassFirstThoughItIsOlder) {
  make(4);
  limits.class_steps = 100;
  scheduler.emplace(limits, *pool);
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{1}},
                                 .prompt = {1, 1, 1},
                                 .completion_tokens_max = 20,
                                 .priority = Priority::kLow}));
  ASSERT_TRUE(submit(2, 3));
  for (int k = 0; k < 6; ++k) (void)step();

  EXPECT_THAT(rows(step()), ElementsAre(2));
  EXPECT_EQ(scheduler->counts().preemptions, 1u);
}

// R-ENG-4: what only the cache keeps goes before anybody is preempted.
TEST_F(SchedulerTest, EvictsPrefixesBeforeItPreempts) {
  make(4);
  ASSERT_TRUE(submit(1, 12));
  (void)step();
  ASSERT_TRUE(scheduler->cancel(SequenceId{1}));
  EXPECT_EQ(scheduler->prefixes().evictable(), 3);

  ASSERT_TRUE(submit(2, 3));
  for (int k = 0; k < 12; ++k) EXPECT_THAT(rows(step()), ElementsAre(2));

  EXPECT_EQ(scheduler->counts().preemptions, 0u);
  EXPECT_GT(scheduler->prefixes().evictions(), 0u);
}

// R-ENG-5
TEST_F(SchedulerTest, CutsChunksSoThatAStepThatDecodesMeetsItsCeiling) {
  make(100, 512);
  limits.step_tokens_max = 512;
  limits.stall_max_s = 0.1;
  scheduler.emplace(limits, *pool);
  const StepCost cost{.step_seconds = 0.01, .token_seconds = 0.001, .read_seconds = 0};
  const auto next = [&] {
    StepPlan plan = scheduler->plan(cost);
    scheduler->commit(std::vector<Drawn>(plan.draws.size(), {.token = 7, .ended = false}));
    return plan;
  };
  ASSERT_TRUE(submit(1, 150));
  EXPECT_THAT(lengths(next()), ElementsAre(150));  // nobody waits for a token of an answer
  ASSERT_TRUE(submit(2, 150));

  EXPECT_THAT(lengths(next()), ElementsAre(1, 89));
  EXPECT_THAT(lengths(next()), ElementsAre(1, 61));
}

TEST_F(SchedulerTest, GivesPromptsAQuarterOfTheTimeThoughRowsAloneTakeMoreThanTheCeiling) {
  make(100, 512);
  limits.step_tokens_max = 512;
  limits.stall_max_s = 0.01;
  scheduler.emplace(limits, *pool);
  const StepCost cost{.step_seconds = 0.059, .token_seconds = 0.001, .read_seconds = 0};
  ASSERT_TRUE(submit(1, 3));
  (void)step();
  ASSERT_TRUE(submit(2, 150));

  EXPECT_THAT(lengths(scheduler->plan(cost)), ElementsAre(1, 20));
}

TEST_F(SchedulerTest, EndsEarlyOnlyWhatCannotMeetItsDeadline) {
  make();
  const TimePoint start{};
  const auto with_deadline = [&](std::uint64_t id, TokenId token) {
    ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{id}},
                                   .prompt = std::vector<TokenId>(100, token),
                                   .completion_tokens_max = 4,
                                   .deadline = Deadline::at(start + 50ms)}));
  };
  with_deadline(1, 3);
  EXPECT_THAT(scheduler->expire(start, 0.4e-3), IsEmpty());
  EXPECT_THAT(scheduler->expire(start, 0.6e-3), ElementsAre(SequenceId{1}));

  // A hundred tokens, of which 96 need not be computed.
  ASSERT_TRUE(scheduler->submit({.choices = {SequenceId{2}},
                                 .prompt = std::vector<TokenId>(100, 4),
                                 .completion_tokens_max = 4}));
  while (step().draws.empty()) {
  }
  with_deadline(3, 4);
  EXPECT_THAT(scheduler->expire(start, 0.6e-3), IsEmpty());
}

// R-ENG-5, in steps: how long a step takes is the token budget's business.
TEST_F(SchedulerTest, AThirtyTwoThousandTokenPromptStallsNoDecodeRowAndIsDoneInFewSteps) {
  constexpr int kPrompt = 32'000;
  pool.emplace(20'000);
  scheduler.emplace(SchedulerLimits{.sequences_max = 64,
                                    .waiting_max = 0,
                                    .step_tokens_max = 512,
                                    .context_tokens_max = 40'000,
                                    .block_tokens = 4,
                                    .blocks_total = 20'000},
                    *pool);
  for (int id = 1; id <= 32; ++id) ASSERT_TRUE(submit(id, 10, 1000));
  (void)step();
  ASSERT_TRUE(submit(33, kPrompt));

  int steps = 0;
  for (bool drawn = false; !drawn; ++steps) {
    const StepPlan plan = step();
    EXPECT_EQ(plan.rows.size(), 33u);
    drawn = plan.draws.size() == 33;
  }

  EXPECT_EQ(steps, (kPrompt + 479) / 480);  // all of the budget that 32 rows leave
}

// R-ENG-5
TEST_F(SchedulerTest, AHundredShortPromptsPassALongOneThatGetsOnAllTheSame) {
  pool.emplace(20'000);
  scheduler.emplace(SchedulerLimits{.sequences_max = 101,
                                    .waiting_max = 0,
                                    .step_tokens_max = 512,
                                    .context_tokens_max = 40'000,
                                    .block_tokens = 4,
                                    .blocks_total = 20'000},
                    *pool);
  ASSERT_TRUE(submit(1, 32'000));
  for (int id = 2; id <= 101; ++id) ASSERT_TRUE(submit(id, 20, 1000));

  std::size_t drawing = 0;
  int steps = 0;
  for (; drawing < 100; ++steps) {
    const StepPlan plan = step();
    drawing = plan.draws.size();
    EXPECT_EQ(plan.step.tokens.size(), 512u);
    EXPECT_THAT(rows(plan), ::testing::Contains(1));  // the long one is in every step
  }

  EXPECT_LE(steps, 12);  // 2000 tokens by half the budget, less what already decodes
}

// R-ENG-5, R-BATCH-3: both ceilings, in seconds of a machine whose steps cost what they are planned
// to cost.
TEST_F(SchedulerTest, BothCeilingsHoldForALongPromptAmongDecodingRowsAndForShortOnesBehindIt) {
  constexpr int kLong = 32'000;
  constexpr int kShort = 20;
  limits = {.sequences_max = 133,
            .waiting_max = 0,
            .step_tokens_max = 2048,
            .context_tokens_max = 40'000,
            .block_tokens = 32,
            .blocks_total = 4'000,
            .stall_max_s = 0.12};
  pool.emplace(limits.blocks_total);
  scheduler.emplace(limits, *pool);
  const StepCost cost{.step_seconds = 4e-3, .token_seconds = 1e-4, .read_seconds = 2e-9};
  for (int id = 1; id <= 32; ++id) ASSERT_TRUE(submit(id, 10, 5000));
  (void)step();
  ASSERT_TRUE(submit(33, kLong));
  for (int id = 34; id <= 133; ++id) ASSERT_TRUE(submit(id, kShort, 5000));

  double now = 0;
  std::map<SequenceId, double> first_token;
  while (!first_token.contains(SequenceId{33})) {
    const StepPlan plan = scheduler->plan(cost);
    double seconds = cost.step_seconds;
    int old_rows = 0;
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      seconds += cost.chunk(segment.kv_len - segment.q_len, segment.q_len);
      old_rows += plan.rows[i] <= SequenceId{32};
    }
    ASSERT_LE(seconds, 0.12 + 1e-9);
    ASSERT_EQ(old_rows, 32);  // so a step is all that a row waits for its next token
    now += seconds;
    for (const Draw& draw : plan.draws) first_token.emplace(draw.sequence, now);
    scheduler->commit(std::vector<Drawn>(plan.draws.size(), {.token = 7, .ended = false}));
  }

  const double long_alone = cost.chunk(0, kLong);
  EXPECT_LE(first_token.at(SequenceId{33}), 8 * long_alone + 0.12);
  EXPECT_LE(first_token.at(SequenceId{33}), 1.5 * long_alone);  // what rows leave is all its own
  for (std::uint64_t id = 34; id <= 133; ++id)
    EXPECT_LE(first_token.at(SequenceId{id}), 8 * 100 * cost.chunk(0, kShort) + 0.12);
  EXPECT_LE(first_token.at(SequenceId{133}), 0.6);
}

}  // namespace
}  // namespace mlxs::engine
