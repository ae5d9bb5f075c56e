#include "engine/sample/row.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

RC_GTEST_PROP(FindBest, AgreesWithMaxElement, (std::vector<std::int8_t> few_values)) {
  RC_PRE(!few_values.empty());
  // Long enough for several blocks and a tail; few values, so that the best occurs often.
  std::vector<float> row;
  const auto copies = *rc::gen::inRange<std::size_t>(1, 200);
  for (std::size_t k = 0; k < copies; ++k)
    for (const std::int8_t value : few_values) row.push_back(value);

  const RowBest best = find_best(row);

  RC_ASSERT(!best.broken);
  RC_ASSERT(static_cast<std::ptrdiff_t>(best.index) ==
            std::max_element(row.begin(), row.end()) - row.begin());
  RC_ASSERT(best.value == row[best.index]);
}

TEST(FindBest, FindsOneBrokenValueAnywhere) {
  for (const float broken : {kNan, kInfinity})
    for (const std::size_t at : {0u, 15u, 16u, 511u, 512u, 1023u, 1024u, 1029u}) {
      std::vector<float> row(1030, 1.0f);
      EXPECT_FALSE(find_best(row).broken);
      row[at] = broken;
      EXPECT_TRUE(find_best(row).broken) << broken << " at " << at;
    }
}

TEST(FindBest, TakesMinusInfinityUnlessThereIsNothingElse) {
  std::vector<float> row(1030, -kInfinity);
  EXPECT_TRUE(find_best(row).broken);

  row[700] = -std::numeric_limits<float>::max();
  EXPECT_FALSE(find_best(row).broken);
  EXPECT_EQ(find_best(row).index, 700u);
}

TEST(AnyWithin, TakesItsLowerEndAndNotItsUpper) {
  std::vector<float> values(kLanes, 1.0f);
  for (const std::size_t size : {kLanes, kLanes - 3}) {
    const std::span<const float> part{values.data(), size};
    EXPECT_TRUE(any_within(part, 1.0f, 2.0f));
    EXPECT_FALSE(any_within(part, 0.0f, 1.0f));
    EXPECT_FALSE(any_within(part, 1.5f, 2.0f));
  }
  values[7] = 1.5f;
  EXPECT_TRUE(any_within(values, 1.5f, 2.0f));
}

TEST(WeightAbove, SumsTheWeightsAtOrAboveEachThreshold) {
  for (const std::size_t size : {std::size_t{3}, std::size_t{1030}}) {
    std::vector<float> weights(size);
    for (std::size_t i = 0; i < size; ++i) weights[i] = static_cast<float>(i % 9) / 8;
    const std::array<float, kThresholds> thresholds{1.0f, 0.875f, 0.8f, 0.5f, 0.3f, 0.2f, 0.1f, 0};

    const auto above = weight_above(weights, thresholds);

    for (std::size_t c = 0; c < kThresholds; ++c) {
      double expected = 0;
      for (const float weight : weights) expected += weight >= thresholds[c] ? weight : 0;
      EXPECT_NEAR(above[c], expected, 1e-6 * expected);
    }
  }
}

TEST(Cut, ZeroesWhatIsBelowAndSumsTheRest) {
  std::vector<float> weights{0.5f, 0.25f, 1.0f, 0.125f};

  EXPECT_EQ(cut(weights, 0.25f), 1.75);

  EXPECT_EQ(weights, (std::vector<float>{0.5f, 0.25f, 1.0f, 0.0f}));
}

TEST(ExpNegative, IsWithinTwoUlpsOrSoOfTheRealOne) {
  for (float x = 0; x > -87; x -= 0.00137f) {
    const double real = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exp_negative(x) / real, 1.0, 2e-7) << x;
  }
  EXPECT_EQ(exp_negative(0), 1.0f);
  EXPECT_EQ(exp_negative(-88), 0.0f);
  EXPECT_EQ(exp_negative(-kInfinity), 0.0f);
}

TEST(Weigh, SumsWhatItWrites) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{17}, kBlock}) {
    std::vector<float> logits(size);
    for (std::size_t i = 0; i < size; ++i) logits[i] = static_cast<float>(i % 7);
    std::vector<float> weights(size, -1.0f);

    const double sum = weigh(logits, 6.0f, 0.5f, weights);

    for (std::size_t i = 0; i < size; ++i)
      EXPECT_EQ(weights[i], exp_negative((logits[i] - 6.0f) * 0.5f));
    EXPECT_NEAR(sum / std::accumulate(weights.begin(), weights.end(), 0.0), 1.0, 1e-6);
  }
}

}  // namespace
}  // namespace mlxs::engine
