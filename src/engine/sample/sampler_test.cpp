#include "engine/sample/sampler.h"

#include "engine/sample/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace mlxs::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::size_t size, std::uint32_t seed, float spread = 3.0f) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal{0.0f, spread};
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

TokenId draw(std::span<const float> logits,
             const SamplingParams& params,
             std::uint64_t position = 0) {
  Sampler sampler;
  return sampler.sample(logits, params, position).value();
}

/// The set a row of filters leaves with the probabilities they leave, by sorting everything.
std::map<TokenId, double> filtered(std::span<const float> logits, const SamplingParams& params) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  std::ranges::sort(
      order, [&](TokenId a, TokenId b) { return at(a) > at(b) || (at(a) == at(b) && a < b); });
  const double best = at(order[0]);
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < order.size())
    order.resize(static_cast<std::size_t>(params.top_k));
  std::vector<double> weights;
  for (const TokenId id : order) weights.push_back(std::exp((at(id) - best) / params.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t kept = 0;
  for (double mass = 0; kept < order.size() && mass < params.top_p * all; ++kept)
    mass += weights[kept];
  if (params.top_p >= 1) kept = order.size();
  while (kept > 1 && weights[kept - 1] < params.min_p * weights[0]) --kept;
  const double left =
      std::accumulate(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  std::map<TokenId, double> probabilities;
  for (std::size_t i = 0; i < kept; ++i) probabilities[order[i]] = weights[i] / left;
  return probabilities;
}

/// Which tokens come in `draws` draws at as many positions.
std::set<TokenId> seen_in(std::span<const float> logits, const SamplingParams& params, int draws) {
  std::set<TokenId> seen;
  for (int position = 0; position < draws; ++position)
    seen.insert(draw(logits, params, static_cast<std::uint64_t>(position)));
  return seen;
}

/// Chi-square of 20 000 draws at as many positions against `filtered`; rare tokens are pooled.
/// Returns how many standard deviations it is off, roughly.
double deviation(std::span<const float> logits, const SamplingParams& params) {
  constexpr int kDraws = 20'000;
  const auto expected = filtered(logits, params);
  Sampler sampler;
  std::map<TokenId, int> counts;
  for (int position = 0; position < kDraws; ++position)
    ++counts[sampler.sample(logits, params, static_cast<std::uint64_t>(position)).value()];
  for (const auto& [id, count] : counts) EXPECT_TRUE(expected.contains(id)) << "drew " << id;
  double chi_square = 0;
  double rare_expected = 0;
  double rare_counted = 0;
  int bins = 0;
  for (const auto& [id, probability] : expected) {
    const double mean = probability * kDraws;
    if (mean < 10) {
      rare_expected += mean;
      rare_counted += counts[id];
      continue;
    }
    chi_square += std::pow(counts[id] - mean, 2) / mean;
    ++bins;
  }
  if (rare_expected > 5) {
    chi_square += std::pow(rare_counted - rare_expected, 2) / rare_expected;
    ++bins;
  }
  return bins < 2 ? 0 : (chi_square - (bins - 1)) / std::sqrt(2.0 * (bins - 1));
}

TEST(Sampler, GreedyTakesTheLowestIdAmongTheBest) {
  std::vector<float> logits = random_logits(1000, 1);
  logits[400] = logits[700] = logits[999] = 50;

  EXPECT_EQ(draw(logits, {.temperature = 0}), 400);
}

TEST(Sampler, DrawsFromTheSoftmax) {
  EXPECT_LT(std::abs(deviation(random_logits(1000, 2), {.temperature = 1.0f, .seed = 3})), 4);
  EXPECT_LT(std::abs(deviation(random_logits(1000, 2), {.temperature = 0.5f, .seed = 4})), 4);
  EXPECT_LT(std::abs(deviation(random_logits(37, 2, 1), {.temperature = 2.0f, .seed = 5})), 4);
}

TEST(Sampler, DrawsFromWhatEachFilterLeaves) {
  const auto logits = random_logits(1000, 6, 2);
  for (const SamplingParams& params :
       {SamplingParams{.top_k = 20, .seed = 1},
        SamplingParams{.top_p = 0.7f, .seed = 2},
        SamplingParams{.min_p = 0.1f, .seed = 3},
        SamplingParams{.top_p = 0.8f, .top_k = 50, .seed = 4},
        SamplingParams{
            .temperature = 1.5f, .top_p = 0.9f, .top_k = 100, .min_p = 0.05f, .seed = 5}}) {
    EXPECT_LT(std::abs(deviation(logits, params)), 4) << "seed " << params.seed;
    EXPECT_LT(filtered(logits, params).size(), 200u);
  }
}

// Many draws from few survivors see each of them and nobody else, whatever the filters.
RC_GTEST_PROP(Sampler, KeepsExactlyWhatSortingWouldKeep, ()) {
  const auto size = *rc::gen::inRange<std::size_t>(1, 700);
  // Coarse logits, so that there are ties at every threshold.
  const auto levels = *rc::gen::inRange(1, 12);
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  std::mt19937 random{seed};
  std::vector<float> logits(size);
  for (float& logit : logits)
    logit = 0.25f * static_cast<float>(random() % static_cast<std::uint32_t>(levels));
  const SamplingParams params{.temperature = *rc::gen::element(0.5f, 1.0f, 1.7f),
                              .top_p = *rc::gen::element(1.0f, 0.05f, 0.3333f, 0.77f, 0.951f),
                              .top_k = *rc::gen::element(0, 1, 2, 5, 40, 10000),
                              .min_p = *rc::gen::element(0.0f, 0.11f, 0.52f, 1.0f),
                              .seed = seed};
  const auto expected = filtered(logits, params);

  Sampler sampler;
  std::set<TokenId> seen;
  for (std::uint64_t position = 0; position < 400; ++position)
    seen.insert(sampler.sample(logits, params, position).value());

  for (const TokenId id : seen) RC_ASSERT(expected.contains(id));
  // A token that should have come 25 times or more but never did was filtered by mistake.
  for (const auto& [id, probability] : expected)
    RC_ASSERT(probability < 25.0 / 400 || seen.contains(id));
}

TEST(Sampler, EachFilterFlipsTheResult) {
  const auto logits = random_logits(2000, 7, 1);
  const SamplingParams plain{.temperature = 1.0f, .seed = 11};
  SamplingParams top_k = plain;
  top_k.top_k = 3;
  SamplingParams top_p = plain;
  top_p.top_p = 0.02f;
  SamplingParams min_p = plain;
  min_p.min_p = 0.6f;
  SamplingParams cold = plain;
  cold.temperature = 0.1f;
  SamplingParams seeded = plain;
  seeded.seed = 12;
  SamplingParams second = plain;
  second.choice = 1;

  const TokenId drawn = draw(logits, plain);

  for (const SamplingParams& params : {top_k, top_p, min_p, cold, seeded, second})
    EXPECT_NE(draw(logits, params), drawn);
  EXPECT_NE(draw(logits, plain, 1), drawn);
}

TEST(Sampler, XtcLeavesTheLeastProbableOfThoseAboveItsThreshold) {
  // Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625.
  std::vector<float> logits{8, 4, 2, 1, 1};
  for (float& logit : logits) logit = std::log(logit);
  const auto seen = [&](float threshold, SamplingParams params) {
    params.xtc_probability = 1;
    params.xtc_threshold = threshold;
    return seen_in(logits, params, 300);
  };

  for (const int top_k : {0, 4}) {
    EXPECT_THAT(seen(0.6f, {.top_k = top_k}), ::testing::Contains(0));  // one above: nothing goes
    EXPECT_THAT(seen(0.3f, {.top_k = top_k}), ::testing::Contains(0));
    EXPECT_THAT(seen(0.2f, {.top_k = top_k}), ::testing::Not(::testing::Contains(0)));
    EXPECT_THAT(seen(0.2f, {.top_k = top_k}), ::testing::Contains(1));
  }
  EXPECT_THAT(seen(0.1f, {}), ::testing::ElementsAre(2, 3, 4));
  EXPECT_THAT(seen(0.0f, {}),
              ::testing::ElementsAre(4));  // of equals the higher id is less probable
  EXPECT_THAT(seen(0.1f, {.top_k = 4}), ::testing::ElementsAre(2, 3));
  // It looks at what the filters before it leave: of two, 0.67 and 0.33.
  EXPECT_THAT(seen(0.3f, {.top_k = 2}), ::testing::ElementsAre(1));
  EXPECT_THAT(seen(0.3f, {.top_p = 0.7f}), ::testing::ElementsAre(1));
}

TEST(Sampler, XtcStrikesWithItsProbability) {
  const std::vector<float> logits{10, 9.99f, -30};
  const SamplingParams params{.seed = 3, .xtc_probability = 0.3f, .xtc_threshold = 0.1f};
  int second = 0;
  for (std::uint64_t position = 0; position < 4000; ++position)
    second += draw(logits, params, position) == 1 ? 1 : 0;

  // 0.3 always and 0.7 half of the time; four standard deviations.
  EXPECT_NEAR(second / 4000.0, 0.648, 0.032);
}

TEST(Sampler, TopKCountsTiesByLowestId) {
  const std::vector<float> logits(100, 1.0f);
  std::set<TokenId> seen;
  for (std::uint64_t position = 0; position < 200; ++position)
    seen.insert(draw(logits, {.top_k = 3}, position));

  EXPECT_THAT(seen, ::testing::ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheOneThatReachesIt) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits{std::log(4.0f), std::log(2.0f), 0.0f, 0.0f};
  const auto survivors = [&](float top_p) {
    std::set<TokenId> seen;
    for (std::uint64_t position = 0; position < 300; ++position)
      seen.insert(draw(logits, {.top_p = top_p}, position));
    return seen.size();
  };

  EXPECT_EQ(survivors(1e-6f), 1u);
  EXPECT_EQ(survivors(0.49f), 1u);
  EXPECT_EQ(survivors(0.51f), 2u);
  EXPECT_EQ(survivors(0.76f), 3u);
  EXPECT_EQ(survivors(0.9f), 4u);
}

TEST(Sampler, ExtremesOfTheParametersAreGreedyOrPlain) {
  const auto logits = random_logits(5000, 8);
  const TokenId best = draw(logits, {.temperature = 0});
  const SamplingParams plain{.temperature = 1.0f, .seed = 9};
  for (std::uint64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(draw(logits, {.temperature = 1e-6f, .seed = 9}, position), best);
    EXPECT_EQ(draw(logits, {.temperature = 1e-45f, .seed = 9}, position), best);
    EXPECT_EQ(draw(logits, {.top_k = 1, .seed = 9}, position), best);
    EXPECT_EQ(draw(logits, {.top_p = 1e-9f, .seed = 9}, position), best);
    EXPECT_EQ(draw(logits, {.min_p = 1.0f, .seed = 9}, position), best);
    const TokenId drawn = draw(logits, plain, position);
    EXPECT_EQ(draw(logits, {.top_k = 5000, .seed = 9}, position), drawn);
    EXPECT_EQ(draw(logits, {.top_k = 1'000'000, .seed = 9}, position), drawn);
    EXPECT_EQ(draw(logits, {.top_p = 1.0f, .min_p = 0.0f, .seed = 9}, position), drawn);
  }
}

TEST(Sampler, WorksOnRowsOfOneTokenAndOfVeryDifferentLogits) {
  EXPECT_EQ(draw(std::vector<float>{-3.0f}, {}), 0);
  const float greatest = std::numeric_limits<float>::max();
  const std::vector<float> wide{-greatest, greatest, -kInfinity, 0.0f};
  for (const SamplingParams& params : {SamplingParams{},
                                       SamplingParams{.temperature = 2.0f, .top_k = 3},
                                       SamplingParams{.top_p = 0.9f},
                                       SamplingParams{.min_p = 0.1f}})
    EXPECT_EQ(draw(wide, params), 1);
}

TEST(Sampler, LogprobsAreTheLogarithmOfTheSoftmax) {
  const auto logits = random_logits(3000, 12, 4);
  double all = 0;
  for (const float logit : logits) all += std::exp(static_cast<double>(logit));
  const auto expected = [&](TokenId id) {
    return logits[static_cast<std::size_t>(id)] - std::log(all);
  };
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, std::ranges::greater{}, expected);

  Sampler sampler;
  const TokenLogprob found = sampler.logprob(logits, 17, 20);

  EXPECT_EQ(found.token, 17);
  EXPECT_NEAR(found.logprob, expected(17), 2e-6);
  ASSERT_EQ(found.top.size(), 20U);
  for (std::size_t k = 0; k < 20; ++k) {
    EXPECT_EQ(found.top[k].token, order[k]);
    EXPECT_NEAR(found.top[k].logprob, expected(order[k]), 2e-6);
  }
  EXPECT_TRUE(sampler.logprob(logits, 17, 0).top.empty());
}

TEST(Sampler, TopLogprobsLeaveOutWhatCannotCome) {
  const std::vector<float> logits{1, -kInfinity, 1, 0};
  Sampler sampler;

  const TokenLogprob found = sampler.logprob(logits, 0, 20);

  ASSERT_EQ(found.top.size(), 3U);
  EXPECT_EQ(found.top[0].token, 0);  // the lower id first among equals
  EXPECT_EQ(found.top[1].token, 2);
  EXPECT_EQ(found.top[2].token, 3);
}

TEST(Sampler, NeverDrawsAMaskedToken) {
  std::vector<float> logits(600, -kInfinity);
  logits[5] = logits[555] = 1.0f;
  for (const SamplingParams& params : {SamplingParams{.temperature = 2.0f},
                                       SamplingParams{.top_k = 10},
                                       SamplingParams{.top_p = 0.99f},
                                       SamplingParams{.min_p = 0.001f}})
    for (std::uint64_t position = 0; position < 50; ++position)
      EXPECT_THAT(draw(logits, params, position), ::testing::AnyOf(5, 555));
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  Sampler sampler;
  const std::vector<float> masked(100, -kInfinity);
  std::vector<float> nan = random_logits(100, 1);
  nan[50] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> infinite = random_logits(100, 1);
  infinite[50] = kInfinity;

  for (const auto& logits : {masked, nan, infinite})
    for (const SamplingParams& params : {SamplingParams{.temperature = 0},
                                         SamplingParams{},
                                         SamplingParams{.top_p = 0.5f, .top_k = 5}}) {
      const auto refused = sampler.sample(logits, params, 0);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, ErrorCode::kInternal);
    }
}

// R-ENG-2: scratch memory left by other rows changes nothing.
TEST(Sampler, DrawsTheSameAloneAsBetweenOtherRows) {
  Sampler shared;
  std::mt19937 random{5};
  for (std::uint32_t k = 0; k < 300; ++k) {
    const auto logits = random_logits(1 + random() % 3000, k);
    const SamplingParams params{.temperature = static_cast<float>(random() % 4) * 0.5f,
                                .top_p = random() % 2 == 0 ? 1.0f : 0.9f,
                                .top_k = static_cast<int>(random() % 3) * 20,
                                .min_p = random() % 2 == 0 ? 0.0f : 0.02f,
                                .seed = random()};

    EXPECT_EQ(shared.sample(logits, params, k).value(), draw(logits, params, k));
  }
}

}  // namespace
}  // namespace mlxs::engine
