#include "engine/ops/route.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

/// By expert, of token `t`.
std::map<std::uint32_t, float> shares_of(const Routes& routes, int t) {
  const mx::array shares = mx::contiguous(mx::astype(routes.shares, mx::float32));
  const mx::array experts = mx::contiguous(routes.experts);
  mx::eval(experts, shares);
  std::map<std::uint32_t, float> result;
  for (int i = 0; i < experts.shape(1); ++i) {
    const auto at = static_cast<std::size_t>(t * experts.shape(1) + i);
    result[experts.data<std::uint32_t>()[at]] = shares.data<float>()[at];
  }
  return result;
}

TEST(Route, TakesTheHighestLogitsWithTheSharesOfASoftmax) {
  const mx::array logits =
      mx::multiply(mx::random::normal({7, 32}, mx::random::key(3)), mx::array(4.0f));
  mx::eval(logits);
  for (const int each : {1, 4, 32})
    for (const bool normalised : {true, false}) {
      const Routes routes = route(logits, each, normalised);
      EXPECT_EQ(routes.experts.shape(), (mx::Shape{7, each}));
      for (int t = 0; t < 7; ++t) {
        const float* row = logits.data<float>() + t * 32;
        std::vector<float> sorted(row, row + 32);
        std::ranges::sort(sorted, std::ranges::greater{});
        double sum = 0;
        for (int i = 0; i < (normalised ? each : 32); ++i)
          sum += std::exp(sorted[static_cast<std::size_t>(i)]);
        const auto shares = shares_of(routes, t);
        ASSERT_EQ(shares.size(), static_cast<std::size_t>(each));
        for (const auto& [expert, share] : shares) {
          EXPECT_GE(row[expert], sorted[static_cast<std::size_t>(each) - 1]);
          EXPECT_NEAR(share, std::exp(row[expert]) / sum, 1e-6);
        }
      }
    }
}

TEST(Route, GivesTheSameInAnyDtypeAndOfAView) {
  const mx::array wide = mx::random::normal({8, 5}, mx::random::key(4));
  const mx::array logits = mx::transpose(wide);  // 5 tokens, 8 experts, whose logits lie apart
  mx::eval(logits);
  const Routes own = route(logits, 3, true);
  const Routes half = route(mx::astype(logits, mx::bfloat16), 3, true);
  EXPECT_EQ(half.shares.dtype(), mx::bfloat16);
  for (int t = 0; t < 5; ++t) {
    const auto expected = shares_of(own, t);
    const auto found = shares_of(half, t);
    for (const auto& [expert, share] : expected) {
      ASSERT_TRUE(found.contains(expert)) << t;
      EXPECT_NEAR(found.at(expert), share, 0.02);
    }
  }
}

}  // namespace
}  // namespace mlxs::engine
