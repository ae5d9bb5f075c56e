// What sequences share: prompts, blocks and the time of a step.

#include "engine/engine.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_engine.h"
#include "engine/testing/fake_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;

/// Tokens of each run, noted by a hook. Only read when the engine is at rest.
std::function<Result<void>(std::uint64_t, const Step&)> note_tokens(std::vector<std::size_t>& to) {
  return [&to](std::uint64_t, const Step& step) -> Result<void> {
    to.push_back(step.tokens.size());
    return {};
  };
}

// R-ENG-2: a cached prefix changes no answer.
TEST(Engine, ComputesAPromptThatItKnowsOnlyFromItsLastTokensOn) {
  const GenerationRequest request = request_of(std::string(30, 'q') + "?", 20);
  for (const bool prefix_cache : {true, false}) {
    EventLog log;
    std::vector<std::size_t> tokens;
    const auto engine =
        start_engine(log, {.before_run = note_tokens(tokens)}, {.prefix_cache = prefix_cache});
    ASSERT_TRUE(engine->submit(SequenceId{1}, request));
    EXPECT_EQ(log.finished(SequenceId{1}).cached_tokens, 0);
    const std::size_t runs = tokens.size();

    ASSERT_TRUE(engine->submit(SequenceId{2}, request));
    const GenerationEvent answer = log.finished(SequenceId{2});

    EXPECT_EQ(answer.token_ids, answer_alone(request));
    EXPECT_EQ(answer.prompt_tokens, 31);
    EXPECT_EQ(answer.cached_tokens, prefix_cache ? 28 : 0);
    EXPECT_EQ(tokens.at(runs), prefix_cache ? 3u : 31u);
    const EngineStats stats = engine->stats();
    EXPECT_EQ(stats.prefix_queries, prefix_cache ? 62u : 0u);
    EXPECT_EQ(stats.prefix_hits, prefix_cache ? 28u : 0u);
    EXPECT_EQ(stats.blocks_cached > 0, prefix_cache);
    EXPECT_EQ(stats.blocks_free, stats.blocks_total);
  }
}

TEST(Engine, PrefillsAPromptOnceForAllItsChoices) {
  EventLog log;
  std::vector<std::size_t> tokens;
  FakeRunner::Options options = answers_with(10, "ab");
  options.before_run = note_tokens(tokens);
  const auto engine = start_engine(log, options);
  const std::vector<SequenceId> ids{SequenceId{1}, SequenceId{2}, SequenceId{3}};

  ASSERT_TRUE(engine->submit(ids, request_of(std::string(10, 'p'))));
  for (const SequenceId id : ids) EXPECT_EQ(log.finished(id).text, "ab");

  // The prompt; a token and twice the two tokens behind its last full block; a token each.
  EXPECT_EQ(tokens, (std::vector<std::size_t>{10, 1 + 3 + 3, 3}));
  EXPECT_EQ(engine->stats().prompt_tokens, 10u);
}

/// A runner whose steps take a time for each token.
FakeRunner::Options takes(std::chrono::microseconds per_token, std::vector<std::size_t>& tokens) {
  FakeRunner::Options options{.context_tokens_max = 2048};
  options.next = [](std::span<const TokenId>) { return TokenId{'x'}; };
  options.before_run = [per_token, &tokens](std::uint64_t, const Step& step) -> Result<void> {
    tokens.push_back(step.tokens.size());
    std::this_thread::sleep_for(per_token * step.tokens.size());
    return {};
  };
  return options;
}

/// The largest step while a prompt of 400 tokens comes beside an answer that goes on. Nothing if
/// this machine stood still meanwhile: what a step took says nothing about its tokens then.
std::optional<std::size_t> largest_step(Milliseconds latency_budget) {
  EventLog log;
  std::vector<std::size_t> tokens;
  FakeRunner::Options options = takes(200us, tokens);
  bool stood_still = false;
  TimePoint due = TimePoint::max();
  options.before_run = [&, run = options.before_run](std::uint64_t number, const Step& step) {
    stood_still = stood_still || Clock::now() > due;
    due = Clock::now() + 200us * step.tokens.size() + 20ms;
    return run(number, step);
  };
  auto engine = start_engine(log, options, {.latency_budget = latency_budget});
  EXPECT_TRUE(engine->submit(SequenceId{1}, request_of(std::string(20, 'a'), 1900)));
  log.wait([](const auto& events) { return events.size() >= 5; });

  EXPECT_TRUE(engine->submit(SequenceId{2}, request_of(std::string(400, 'b'), 1)));
  (void)log.finished(SequenceId{2});
  engine.reset();

  if (stood_still) return std::nullopt;
  return *std::ranges::max_element(tokens);
}

// R-ENG-5
TEST(Engine, PrefillsInChunksThatFitTheLatencyBudgetWhileAnAnswerGoesOn) {
  std::optional<std::size_t> bounded;
  while (!bounded) bounded = largest_step(10ms);
  std::optional<std::size_t> unbounded;
  while (!unbounded) unbounded = largest_step(0ms);

  EXPECT_LE(*bounded, 52u);  // 50 take the whole budget; a slow machine only cuts them smaller
  EXPECT_GE(*unbounded, 400u);
}

// R-ENG-5
TEST(Engine, RefusesAPromptWhoseFirstTokenWouldComeTooLate) {
  EventLog log;
  std::vector<std::size_t> tokens;
  // Times so far apart that a machine which stands still for seconds does not mix them up.
  const auto engine =
      start_engine(log, takes(10ms, tokens), {.first_token_max = Milliseconds{10'000}});
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of(std::string(20, 'a'), 1)));
  (void)log.finished(SequenceId{1});

  const auto refused = engine->submit(SequenceId{2}, request_of(std::string(1500, 'b'), 1));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_TRUE(engine->submit(SequenceId{2}, request_of(std::string(10, 'b'), 1)));
  EXPECT_EQ(log.finished(SequenceId{2}).completion_tokens, 1);
}

}  // namespace
}  // namespace mlxs::engine
