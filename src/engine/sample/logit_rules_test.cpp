#include "engine/sample/logit_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::FloatEq;

constexpr float kBanned = -std::numeric_limits<float>::infinity();

struct Case {
  SamplingParams params = {};
  LogitRules::Minimum minimum = {};
  std::vector<TokenId> prompt = {};
  std::vector<TokenId> generated = {};
};

std::vector<float> after(const Case& given, const std::vector<float>& logits) {
  const auto rules = LogitRules::make(given.params, given.minimum, given.prompt);
  if (rules == nullptr) return logits;
  for (const TokenId token : given.generated) rules->add(token);
  std::vector<float> scratch;
  const auto row = rules->apply(logits, scratch);
  return {row.begin(), row.end()};
}

TEST(LogitRules, AreNoneForParametersThatChangeNothing) {
  const std::vector<TokenId> prompt{1, 2};
  SamplingParams plain{.temperature = 0.5f, .top_p = 0.5f, .seed = 7};
  plain.dry = {.multiplier = 0.8f, .last_n = 0};

  EXPECT_EQ(LogitRules::make(plain, {.min_tokens = 0, .end_tokens = {3}}, prompt), nullptr);
}

TEST(LogitRules, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOfAnythingSeen) {
  const Case given{.params = {.repetition_penalty = 2}, .prompt = {0, 1}, .generated = {1, 2}};

  EXPECT_THAT(after(given, {4, -4, 1, 4}), ElementsAre(2, -8, 0.5f, 4));
}

TEST(LogitRules, FrequencyAndPresenceCountGeneratedTokensOnly) {
  const Case given{.params = {.frequency_penalty = 0.5f, .presence_penalty = 0.25f},
                   .prompt = {0, 0, 1},
                   .generated = {1, 2, 2}};

  EXPECT_THAT(after(given, {1, 1, 1, 1}), ElementsAre(1, 0.25f, -0.25f, 1));
}

TEST(LogitRules, APromptTokenUnderAllPenaltiesIsOnlyRepetitionPenalised) {
  const Case given{
      .params = {.repetition_penalty = 2, .frequency_penalty = 1, .presence_penalty = 1},
      .prompt = {0},
      .generated = {1}};

  EXPECT_THAT(after(given, {4, 4, 4}), ElementsAre(2, 0, 4));
}

TEST(LogitRules, NegativePenaltiesEncourage) {
  const Case given{.params = {.frequency_penalty = -1, .presence_penalty = -2},
                   .generated = {0, 0}};

  EXPECT_THAT(after(given, {1, 1}), ElementsAre(5, 1));
}

TEST(LogitRules, BiasIsAddedAndMinusHundredBans) {
  const Case given{.params = {.bias = {{0, 1.5f}, {1, -100}, {2, -99}}}};

  EXPECT_THAT(after(given, {1, 1, 1, 1}), ElementsAre(2.5f, kBanned, -98, 1));
}

TEST(LogitRules, ABiasOfHundredSelects) {
  const Case given{.params = {.bias = {{1, 100}, {3, 100}, {0, 99}}}};

  EXPECT_THAT(after(given, {5, 1, 9, -400}), ElementsAre(kBanned, 1, kBanned, -400));
}

TEST(LogitRules, EndTokensAreBannedUntilTheMinimumIsGenerated) {
  Case given{.minimum = {.min_tokens = 2, .end_tokens = {0, 2}}};
  EXPECT_THAT(after(given, {1, 1, 1}), ElementsAre(kBanned, 1, kBanned));

  given.generated = {1};
  EXPECT_THAT(after(given, {1, 1, 1}), ElementsAre(kBanned, 1, kBanned));

  given.generated = {1, 1};
  EXPECT_THAT(after(given, {1, 1, 1}), ElementsAre(1, 1, 1));
}

Case dry_case(DryParams dry, std::vector<TokenId> generated, std::vector<TokenId> prompt = {}) {
  Case given{.prompt = std::move(prompt), .generated = std::move(generated)};
  given.params.dry = std::move(dry);
  return given;
}

TEST(LogitRules, DryPenalisesWhatWouldContinueARepetition) {
  // 1 2 3 was followed by 4 once; now 1 2 3 again.
  const Case given = dry_case({.multiplier = 2, .base = 3}, {2, 3}, {1, 2, 3, 4, 1});

  // A repetition of three tokens, allowed are two: 2 * 3^(3 - 2).
  EXPECT_THAT(after(given, {0, 0, 0, 0, 0, 0}), ElementsAre(0, 0, 0, 0, -6, 0));
}

TEST(LogitRules, DryTakesTheLongestRepetitionATokenWouldContinue) {
  // 5 came once after "9 2 3", once after "8 1 2 3".
  const Case given =
      dry_case({.multiplier = 1, .base = 2}, {1, 2, 3}, {9, 2, 3, 5, 8, 1, 2, 3, 5, 7});

  EXPECT_THAT(after(given, std::vector<float>(10, 0)), ElementsAre(0, 0, 0, 0, 0, -2, 0, 0, 0, 0));
}

TEST(LogitRules, DryStopsAtBreakers) {
  DryParams dry{.multiplier = 2, .base = 3};
  const std::vector<TokenId> prompt{1, 2, 3, 4, 1, 2, 3};
  dry.breakers = std::make_shared<const std::vector<TokenId>>(std::vector<TokenId>{1, 7});
  EXPECT_EQ(after(dry_case(dry, {}, prompt), std::vector<float>(6, 0))[4], -2);  // "2 3" is left

  dry.breakers = std::make_shared<const std::vector<TokenId>>(std::vector<TokenId>{2});
  EXPECT_EQ(after(dry_case(dry, {}, prompt), std::vector<float>(6, 0))[4], 0);
}

TEST(LogitRules, DryLooksAtTheLatestTokensOnly) {
  const std::vector<TokenId> prompt{1, 2, 3, 4, 1, 2, 3};
  const std::vector<float> logits(6, 0);

  EXPECT_EQ(after(dry_case({.multiplier = 2, .base = 3, .last_n = 7}, {}, prompt), logits)[4], -6);
  EXPECT_EQ(after(dry_case({.multiplier = 2, .base = 3, .last_n = 6}, {}, prompt), logits)[4], -2);
  EXPECT_EQ(after(dry_case({.multiplier = 2, .base = 3, .last_n = 5}, {}, prompt), logits)[4], 0);
}

TEST(LogitRules, DryOfAVeryLongRepetitionIsFinite) {
  const Case given = dry_case({.multiplier = 2, .base = 3}, std::vector<TokenId>(3000, 1));

  const auto logits = after(given, {0, 0});

  EXPECT_TRUE(std::isfinite(logits[1]));
  EXPECT_LT(logits[1], -1e37f);
}

// Against the definition, by comparing every suffix with every other.
RC_GTEST_PROP(LogitRules, DryEqualsItsDefinition, ()) {
  const auto history = *rc::gen::container<std::vector<TokenId>>(rc::gen::inRange(0, 4));
  const int allowed = *rc::gen::inRange(0, 4);
  const int last_n = *rc::gen::element(-1, 1, 5, 12);
  const auto breaker = *rc::gen::element<TokenId>(3, 99);
  const auto prompt_size = *rc::gen::inRange<std::size_t>(0, history.size() + 1);
  DryParams dry{.multiplier = 0.5f, .base = 1.5f, .allowed_length = allowed, .last_n = last_n};
  dry.breakers = std::make_shared<const std::vector<TokenId>>(std::vector<TokenId>{breaker});

  std::vector<float> expected(5, 0.0f);
  std::vector<TokenId> window = history;
  if (last_n > 0 && window.size() > static_cast<std::size_t>(last_n))
    window.erase(window.begin(), window.end() - last_n);
  const int size = static_cast<int>(window.size());
  int limit = 0;
  while (limit < size && window[static_cast<std::size_t>(size - 1 - limit)] != breaker) ++limit;
  if (size > allowed && limit >= allowed) {
    std::map<TokenId, int> longest;
    for (int next = 1; next < size; ++next) {  // window[next] followed what ends before it
      int length = 0;
      while (length < next && length < limit &&
             window[static_cast<std::size_t>(next - 1 - length)] ==
                 window[static_cast<std::size_t>(size - 1 - length)])
        ++length;
      const TokenId token = window[static_cast<std::size_t>(next)];
      if (length >= allowed) longest[token] = std::max(longest[token], length);
    }
    for (const auto& [token, length] : longest)
      expected[static_cast<std::size_t>(token)] =
          -0.5f * std::pow(1.5f, static_cast<float>(length - allowed));
  }

  const auto middle = history.begin() + static_cast<std::ptrdiff_t>(prompt_size);
  Case given = dry_case(dry, {middle, history.end()}, {history.begin(), middle});
  const auto actual = after(given, std::vector<float>(5, 0.0f));

  for (std::size_t k = 0; k < 5; ++k) RC_ASSERT(std::abs(actual[k] - expected[k]) < 1e-5f);
}

// R-ENG-2: what was generated here or came in as resumed is the same.
TEST(LogitRules, FollowFromTheTokensAlone) {
  SamplingParams params{
      .repetition_penalty = 1.3f, .frequency_penalty = 0.2f, .presence_penalty = 0.1f};
  params.dry = {.multiplier = 0.8f};
  const std::vector<TokenId> prompt{1, 2, 3, 1, 2};
  const std::vector<TokenId> generated{3, 1, 2, 3, 4, 3};
  const std::vector<float> logits{3, 2, 1, -1, -2, 0.5f};
  std::vector<float> scratch;
  const auto stepwise = LogitRules::make(params, {}, prompt);
  for (const TokenId token : generated) {
    (void)stepwise->apply(logits, scratch);
    stepwise->add(token);
  }
  const auto at_once = after({params, {}, prompt, generated}, logits);

  const auto row = stepwise->apply(logits, scratch);

  EXPECT_THAT(row, ElementsAreArray(at_once));
}

}  // namespace
}  // namespace mlxs::engine
