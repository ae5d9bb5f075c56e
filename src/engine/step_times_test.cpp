#include "engine/step_times.h"

#include <gtest/gtest.h>

namespace mlxs::engine {
namespace {

TEST(StepTimes, AreZeroBeforeTheFirstStep) {
  EXPECT_EQ(StepTimes{}.p50_p95(), std::pair(0.0, 0.0));
}

TEST(StepTimes, TakeTheNearestRank) {
  StepTimes times;
  times.add(3.0);
  EXPECT_EQ(times.p50_p95(), std::pair(3.0, 3.0));

  for (int k = 1; k < 100; ++k) times.add(k < 3 ? k : k + 1.0);  // 1 to 100 together

  EXPECT_EQ(times.p50_p95(), std::pair(50.0, 95.0));
}

TEST(StepTimes, ForgetAllButTheLast256) {
  StepTimes times;
  for (int k = 0; k < 1000; ++k) times.add(100.0);
  for (int k = 0; k < 256; ++k) times.add(1.0);

  EXPECT_EQ(times.p50_p95(), std::pair(1.0, 1.0));
}

}  // namespace
}  // namespace mlxs::engine
