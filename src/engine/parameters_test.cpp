// What the parameters of a request do in an engine, alone and all of them together.
#include "engine/engine.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

std::unique_ptr<Engine> start_engine(EventLog& log,
                                     const FakeRunner::Options& options = {},
                                     const EngineLimits& limits = {}) {
  auto engine = Engine::start(
      [&]() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{std::make_unique<FakeRunner>(options)};
      },
      make_byte_detokenizer,
      limits,
      log.sink());
  return std::move(engine).value();
}

/// A model that answers a prompt of one token with `text`, then with end tokens.
FakeRunner::Options answers_with(std::string text) {
  FakeRunner::Options options;
  options.next = [text = std::move(text)](std::span<const TokenId> history) {
    const std::size_t at = history.size() - 1;
    return at < text.size() ? TokenId{static_cast<unsigned char>(text[at])} : kFakeEndToken;
  };
  return options;
}

GenerationRequest request_of(std::string_view prompt, int completion_tokens_max = 10) {
  GenerationRequest request;
  request.prompt = byte_tokens(prompt);
  request.completion_tokens_max = completion_tokens_max;
  request.sampling.temperature = 0;
  return request;
}

GenerationEvent answer(const GenerationRequest& request, const FakeRunner::Options& options = {}) {
  EventLog log;
  const auto engine = start_engine(log, options);
  const auto queued = engine->submit(SequenceId{1}, request);
  EXPECT_TRUE(queued);
  return log.finished(SequenceId{1});
}

TEST(RequestParameters, MinTokensBansTheEnd) {
  GenerationRequest request = request_of("p");
  request.min_tokens = 5;

  const GenerationEvent longer = answer(request, answers_with("ab"));

  EXPECT_EQ(answer(request_of("p"), answers_with("ab")).completion_tokens, 3);
  EXPECT_EQ(longer.completion_tokens, 6);
  EXPECT_EQ(longer.token_ids.back(), kFakeEndToken);
  EXPECT_EQ(longer.finish, FinishReason::kStop);
}

TEST(RequestParameters, IgnoredEndTokensEndNothingAndHaveNoText) {
  GenerationRequest request = request_of("p");
  request.ignore_end_tokens = true;

  const GenerationEvent longer = answer(request, answers_with("ab"));

  EXPECT_EQ(longer.finish, FinishReason::kLength);
  EXPECT_EQ(longer.completion_tokens, 10);
  EXPECT_EQ(longer.text, "ab");
}

TEST(RequestParameters, AStopTokenEndsTheAnswerWithoutItsText) {
  GenerationRequest request = request_of("p");
  request.stop_tokens = {'c', 'x'};

  const GenerationEvent stopped = answer(request, answers_with("abcd"));

  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.text, "ab");
  EXPECT_EQ(stopped.completion_tokens, 3);
}

TEST(RequestParameters, StopTokensCountWhereEndTokensAreIgnored) {
  GenerationRequest request = request_of("p");
  request.ignore_end_tokens = true;
  request.stop_tokens = {kFakeEndToken};

  EXPECT_EQ(answer(request, answers_with("ab")).finish, FinishReason::kStop);
}

TEST(RequestParameters, ABiasChangesGreedyAnswersExactly) {
  GenerationRequest banned = request_of("p");
  banned.sampling.bias = {{'a', -100}};
  GenerationRequest selected = request_of("p", 4);
  selected.sampling.bias = {{'z', 100}};

  EXPECT_EQ(answer(banned, answers_with("aba")).token_ids.at(0), 0);  // the lowest of equals
  EXPECT_EQ(answer(selected, answers_with("aba")).text, "zzzz");
}

TEST(RequestParameters, ThatBanEveryTokenAreTheClientsFault) {
  GenerationRequest request = request_of("p");
  request.sampling.bias = {{kFakeEndToken, 100}};
  request.min_tokens = 1;

  const GenerationEvent failed = answer(request);

  ASSERT_EQ(failed.finish, FinishReason::kError);
  EXPECT_EQ(failed.error->code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(failed.error->param, "logit_bias");
  EXPECT_TRUE(failed.token_ids.empty());
}

TEST(RequestParameters, IdsOutsideTheVocabularyAreRefusedByName) {
  EventLog log;
  const auto engine = start_engine(log);
  for (const TokenId id : {-1, kFakeVocabSize}) {
    GenerationRequest biased = request_of("p");
    biased.sampling.bias = {{5, 1}, {id, 1}};
    GenerationRequest stopped = request_of("p");
    stopped.stop_tokens = {id};

    const auto bias = engine->submit(SequenceId{1}, biased);
    const auto stop = engine->submit(SequenceId{2}, stopped);

    ASSERT_FALSE(bias);
    EXPECT_EQ(bias.error().param, "logit_bias");
    ASSERT_FALSE(stop);
    EXPECT_EQ(stop.error().param, "stop_token_ids");
  }
}

GenerationRequest random_request(std::mt19937& random) {
  const auto below = [&](std::uint32_t bound) { return random() % bound; };
  const auto share = [&] { return static_cast<float>(below(1000)) / 1000; };
  std::string prompt(1 + below(30), 'x');
  for (char& letter : prompt) letter = static_cast<char>('a' + below(4));
  GenerationRequest request = request_of(prompt, static_cast<int>(1 + below(25)));
  SamplingParams& sampling = request.sampling;
  sampling.temperature = below(3) == 0 ? 0.0f : 0.5f + share();
  sampling.seed = random();
  if (below(3) == 0) sampling.top_k = 8;
  if (below(3) == 0) sampling.top_p = 0.9f;
  if (below(2) == 0) sampling.repetition_penalty = 1 + share();
  if (below(2) == 0) sampling.frequency_penalty = 4 * share() - 2;
  if (below(2) == 0) sampling.presence_penalty = 4 * share() - 2;
  if (below(3) == 0) sampling.bias = {{'e', 3}, {'a', -100}};
  if (below(3) == 0) sampling.xtc_probability = share();
  if (below(3) == 0) sampling.dry = {.multiplier = 1 + share(), .allowed_length = 1};
  if (below(3) == 0) request.min_tokens = static_cast<int>(below(10));
  if (below(4) == 0) request.ignore_end_tokens = true;
  if (below(4) == 0) request.stop_tokens = {'q'};
  if (below(3) == 0) request.stop = {"e", "gh"};
  return request;
}

// R-ENG-2, R-ENG-8: in a crowd, with preemptions, as alone.
TEST(RequestParameters, GiveTheSameAnswerInACrowdAsAlone) {
  std::mt19937 random{20};
  std::vector<GenerationRequest> requests;
  for (int k = 0; k < 120; ++k) requests.push_back(random_request(random));
  EventLog log;
  const auto engine = start_engine(log, {.blocks_total = 32}, {.sequences_max = 16});

  for (std::uint64_t k = 0; k < requests.size(); ++k)
    ASSERT_TRUE(engine->submit(SequenceId{k}, requests[k]));

  for (std::uint64_t k = 0; k < requests.size(); ++k) {
    const GenerationEvent crowded = log.finished(SequenceId{k});
    const GenerationEvent alone = answer(requests[k]);
    EXPECT_EQ(crowded.token_ids, alone.token_ids) << k;
    EXPECT_EQ(crowded.text, alone.text) << k;
    EXPECT_EQ(crowded.finish, alone.finish) << k;
  }
  EXPECT_GT(engine->stats().preemptions, 0U);
}

}  // namespace
}  // namespace mlxs::engine
