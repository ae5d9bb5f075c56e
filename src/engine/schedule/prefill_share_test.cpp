#include "engine/schedule/prefill_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;

std::vector<int> share(std::vector<int> remaining, int budget) {
  return share_prefill(remaining, budget);
}

TEST(SharePrefill, GivesAPromptAloneEverything) {
  EXPECT_THAT(share({1000}, 512), ElementsAre(512));
  EXPECT_THAT(share({100}, 512), ElementsAre(100));
}

TEST(SharePrefill, LetsShortPromptsPassALongOneThatKeepsHalf) {
  EXPECT_THAT(share({5000, 60, 70, 80}, 512), ElementsAre(302, 60, 70, 80));
  EXPECT_THAT(share({5000, 200, 100, 50}, 512), ElementsAre(256, 106, 100, 50));
}

TEST(SharePrefill, ServesEquallyLongPromptsInOrder) {
  EXPECT_THAT(share({500, 500, 500}, 512), ElementsAre(500, 12, 0));
}

TEST(SharePrefill, FavoursTheOldestWithASingleToken) {
  EXPECT_THAT(share({10, 2}, 1), ElementsAre(1, 0));
}

RC_GTEST_PROP(SharePrefill, WastesNothingAndGivesTheOldestItsHalf, ()) {
  const auto remaining =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 2000)));
  const int budget = *rc::gen::inRange(1, 1000);

  const std::vector<int> shares = share_prefill(remaining, budget);

  const auto wanted = std::accumulate(remaining.begin(), remaining.end(), std::int64_t{0});
  RC_ASSERT(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}) ==
            std::min<std::int64_t>(budget, wanted));
  RC_ASSERT(shares[0] >= std::min(remaining[0], (budget + 1) / 2));
  for (std::size_t i = 0; i < shares.size(); ++i)
    RC_ASSERT(shares[i] >= 0 && shares[i] <= remaining[i]);
}

}  // namespace
}  // namespace mlxs::engine
