// What sequences share: prompts, blocks and the time of a step.

#include "engine/engine.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_engine.h"
#include "engine/testing/fake_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
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
  FakeRunner::Options options = answers_with(1, std::string(500, 'x'));
  options.next = [](std::span<const TokenId>) { return TokenId{'x'}; };
  options.before_run = [per_token, &tokens](std::uint64_t, const Step& step) -> Result<void> {
    tokens.push_back(step.tokens.size());
    std::this_thread::sleep_for(per_token * step.tokens.size());
    return {};
  };
  return options;
}

// R-ENG-5
TEST(Engine, PrefillsInChunksThatFitTheLatencyBudgetWhileAnAnswerGoesOn) {
  for (const bool bounded : {true, false}) {
    EventLog log;
    std::vector<std::size_t> tokens;
    const auto engine =
        start_engine(log, takes(200us, tokens), {.latency_budget = Milliseconds{bounded ? 10 : 0}});
    ASSERT_TRUE(engine->submit(SequenceId{1}, request_of(std::string(20, 'a'), 400)));
    log.wait([](const auto& events) { return events.size() >= 5; });

    ASSERT_TRUE(engine->submit(SequenceId{2}, request_of(std::string(400, 'b'), 1)));
    (void)log.finished(SequenceId{2});
    (void)log.finished(SequenceId{1});

    const std::size_t largest = *std::ranges::max_element(tokens);
    if (bounded)
      EXPECT_LE(largest, 52u);  // 50 take the whole budget; a slow machine only cuts them smaller
    else
      EXPECT_GE(largest, 400u);
  }
}

// R-ENG-5
TEST(Engine, RefusesAPromptWhoseFirstTokenWouldComeTooLate) {
  EventLog log;
  std::vector<std::size_t> tokens;
  const auto engine = start_engine(log, takes(1ms, tokens), {.first_token_max = Milliseconds{400}});
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of(std::string(20, 'a'), 1)));
  (void)log.finished(SequenceId{1});

  const auto refused = engine->submit(SequenceId{2}, request_of(std::string(500, 'b'), 1));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_TRUE(engine->submit(SequenceId{2}, request_of(std::string(10, 'b'), 1)));
  EXPECT_EQ(log.finished(SequenceId{2}).completion_tokens, 1);
}

}  // namespace
}  // namespace mlxs::engine
