// What the parameters of a request do in an engine, alone and all of them together.
#include "engine/engine.h"
#include "engine/sample/sampler.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_engine.h"
#include "engine/testing/fake_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

GenerationEvent answer(const GenerationRequest& request, const FakeRunner::Options& options = {}) {
  EventLog log;
  const auto engine = start_engine(log, options);
  const auto queued = engine->submit(SequenceId{1}, request);
  EXPECT_TRUE(queued);
  return log.finished(SequenceId{1});
}

TEST(RequestParameters, MinTokensBansTheEnd) {
  GenerationRequest request = request_of("p", 10);
  request.min_tokens = 5;

  const GenerationEvent longer = answer(request, answers_with(1, "ab"));

  EXPECT_EQ(answer(request_of("p", 10), answers_with(1, "ab")).completion_tokens, 3);
  EXPECT_EQ(longer.completion_tokens, 6);
  EXPECT_EQ(longer.token_ids.back(), kFakeEndToken);
  EXPECT_EQ(longer.finish, FinishReason::kStop);
}

TEST(RequestParameters, IgnoredEndTokensEndNothingAndHaveNoText) {
  GenerationRequest request = request_of("p", 10);
  request.ignore_end_tokens = true;

  const GenerationEvent longer = answer(request, answers_with(1, "ab"));

  EXPECT_EQ(longer.finish, FinishReason::kLength);
  EXPECT_EQ(longer.completion_tokens, 10);
  EXPECT_EQ(longer.text, "ab");
}

TEST(RequestParameters, AStopTokenEndsTheAnswerWithoutItsText) {
  GenerationRequest request = request_of("p", 10);
  request.stop_tokens = {'c', 'x'};

  const GenerationEvent stopped = answer(request, answers_with(1, "abcd"));

  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.text, "ab");
  EXPECT_EQ(stopped.completion_tokens, 3);
}

TEST(RequestParameters, StopTokensCountWhereEndTokensAreIgnored) {
  GenerationRequest request = request_of("p", 10);
  request.ignore_end_tokens = true;
  request.stop_tokens = {kFakeEndToken};

  EXPECT_EQ(answer(request, answers_with(1, "ab")).finish, FinishReason::kStop);
}

TEST(RequestParameters, ABiasChangesGreedyAnswersExactly) {
  GenerationRequest banned = request_of("p", 10);
  banned.sampling.bias = {{'a', -100}};
  GenerationRequest selected = request_of("p", 4);
  selected.sampling.bias = {{'z', 100}};

  EXPECT_EQ(answer(banned, answers_with(1, "aba")).token_ids.at(0), 0);  // the lowest of equals
  EXPECT_EQ(answer(selected, answers_with(1, "aba")).text, "zzzz");
}

TEST(RequestParameters, ThatBanEveryTokenAreTheClientsFault) {
  GenerationRequest request = request_of("p", 10);
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
    GenerationRequest biased = request_of("p", 10);
    biased.sampling.bias = {{5, 1}, {id, 1}};
    GenerationRequest stopped = request_of("p", 10);
    stopped.stop_tokens = {id};

    const auto bias = engine->submit(SequenceId{1}, biased);
    const auto stop = engine->submit(SequenceId{2}, stopped);

    ASSERT_FALSE(bias);
    EXPECT_EQ(bias.error().param, "logit_bias");
    ASSERT_FALSE(stop);
    EXPECT_EQ(stop.error().param, "stop_token_ids");
  }
}

std::string spelled(const std::vector<TokenLogprob>& tokens) {
  std::string text;
  for (const TokenLogprob& token : tokens) text += token.text;
  return text;
}

void expect_equal(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    EXPECT_EQ(a[k].token, b[k].token);
    EXPECT_EQ(a[k].text, b[k].text);
    EXPECT_EQ(a[k].logprob, b[k].logprob);
    ASSERT_EQ(a[k].top.size(), b[k].top.size());
    for (std::size_t t = 0; t < a[k].top.size(); ++t) {
      EXPECT_EQ(a[k].top[t].token, b[k].top[t].token);
      EXPECT_EQ(a[k].top[t].logprob, b[k].top[t].logprob);
    }
  }
}

TEST(RequestParameters, LogprobsAreOfTheModelsOwnDistribution) {
  GenerationRequest request = request_of("once upon", 20);
  request.top_logprobs = 3;
  GenerationRequest bent = request;
  bent.sampling.bias = {{'e', 4}};
  bent.sampling.frequency_penalty = 1;
  bent.sampling.temperature = 2;

  for (const GenerationRequest& given : {request, bent}) {
    const GenerationEvent got = answer(given);
    Sampler sampler;
    std::vector<TokenId> history = given.prompt;
    ASSERT_FALSE(got.logprobs.empty());
    for (const TokenLogprob& token : got.logprobs) {
      const auto expected = sampler.logprob(FakeRunner::logits_after(history), token.token, 3);
      EXPECT_EQ(token.logprob, expected.logprob);
      EXPECT_EQ(token.top.at(2).token, expected.top.at(2).token);
      history.push_back(token.token);
    }
    EXPECT_EQ(spelled(got.logprobs), got.text);
  }
}

TEST(RequestParameters, PromptLogprobsComeWithTheFirstEventOnly) {
  GenerationRequest request = request_of("once", 3);
  request.top_logprobs = 2;
  request.prompt_logprobs = true;
  request.ignore_end_tokens = true;

  const GenerationEvent got = answer(request);

  ASSERT_EQ(got.prompt_logprobs.size(), 3U);
  Sampler sampler;
  for (std::size_t k = 0; k < 3; ++k) {
    const auto before = std::span{request.prompt}.first(k + 1);
    const auto expected =
        sampler.logprob(FakeRunner::logits_after(before), request.prompt[k + 1], 2);
    EXPECT_EQ(got.prompt_logprobs[k].token, expected.token);
    EXPECT_EQ(got.prompt_logprobs[k].logprob, expected.logprob);
    EXPECT_EQ(got.prompt_logprobs[k].top.at(1).token, expected.top.at(1).token);
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
  if (below(2) == 0) request.top_logprobs = static_cast<int>(below(4));
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
    expect_equal(crowded.logprobs, alone.logprobs);
  }
  EXPECT_GT(engine->stats().preemptions, 0U);
}

/// What the events of the first `tokens` tokens give, and what those after them give.
std::pair<GenerationEvent, GenerationEvent> split(const std::vector<GenerationEvent>& events,
                                                  std::size_t tokens) {
  std::pair<GenerationEvent, GenerationEvent> parts;
  for (const GenerationEvent& event : events) {
    GenerationEvent& part = tokens > 0 ? parts.first : parts.second;
    tokens -= std::min(tokens, event.token_ids.size());
    part.token_ids.insert(part.token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    part.text += event.text;
    part.logprobs.insert(part.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    part.finish = event.finish;
    part.prompt_tokens = event.prompt_tokens;
    part.completion_tokens = event.completion_tokens;
  }
  return parts;
}

// R-ENG-2: resumed at any index equals uninterrupted, logprobs of withheld text included.
TEST(RequestParameters, ResumedAtAnyIndexGoOnAsIfUninterrupted) {
  std::mt19937 random{21};
  for (int k = 0; k < 25; ++k) {
    GenerationRequest request = random_request(random);
    if (k % 2 == 0) request.stop = {"abcabc", "e"};
    EventLog log;
    const auto engine = start_engine(log, {.blocks_total = 200});
    ASSERT_TRUE(engine->submit(SequenceId{1}, request));
    const auto whole = log.finished(SequenceId{1});
    const std::vector<GenerationEvent> events = log.all();

    for (std::size_t at = 1; at < whole.token_ids.size(); ++at) {
      GenerationRequest rest = request;
      rest.resume.assign(whole.token_ids.begin(),
                         whole.token_ids.begin() + static_cast<std::ptrdiff_t>(at));
      const SequenceId id{100 + at};
      ASSERT_TRUE(engine->submit(id, rest));
      const GenerationEvent resumed = log.finished(id);
      const GenerationEvent expected = split(events, at).second;

      EXPECT_EQ(resumed.token_ids, expected.token_ids);
      EXPECT_EQ(resumed.text, expected.text);
      EXPECT_EQ(resumed.finish, expected.finish);
      EXPECT_EQ(resumed.prompt_tokens, expected.prompt_tokens);
      EXPECT_EQ(resumed.completion_tokens, expected.completion_tokens);
      expect_equal(resumed.logprobs, expected.logprobs);
    }
  }
}

TEST(RequestParameters, NothingIsResumedThatWouldHaveEnded) {
  EventLog log;
  const auto engine = start_engine(log);
  GenerationRequest ended = request_of("p", 10);
  ended.resume = {'a', kFakeEndToken};
  GenerationRequest full = request_of("p", 2);
  full.resume = {'a', 'b'};
  GenerationRequest unknown = request_of("p", 10);
  unknown.resume = {kFakeVocabSize};

  ASSERT_TRUE(engine->submit(SequenceId{1}, ended));

  EXPECT_EQ(log.finished(SequenceId{1}).error->param, "mlxs.resume");
  for (const GenerationRequest& request : {full, unknown}) {
    const auto refused = engine->submit(SequenceId{2}, request);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
    EXPECT_EQ(refused.error().param, "mlxs.resume");
  }
}

}  // namespace
}  // namespace mlxs::engine
