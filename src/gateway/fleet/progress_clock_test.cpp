#include "gateway/fleet/progress_clock.h"

#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

using namespace std::chrono_literals;

class ProgressClocks : public testing::Test {
 protected:
  const TimePoint start = TimePoint{} + 1h;
  ProgressClock clock{start};
};

TEST_F(ProgressClocks, CountAllTimeOfAWorkerThatNeverReports) {
  EXPECT_EQ(clock.stood_still(start), 0s);
  EXPECT_EQ(clock.stood_still(start + 30s), 30s);
  EXPECT_EQ(clock.reaches(30s), start + 30s);
}

// R-COAL-4
TEST_F(ProgressClocks, PauseWhileStepsAreReportedAndGoOnWhereTheyWere) {
  clock.progressed(start + 10s);
  for (auto at = 11s; at <= 100s; at += 1s) clock.progressed(start + at);

  EXPECT_EQ(clock.stood_still(start + 100s), 10s);
  EXPECT_EQ(clock.stood_still(start + 102s), 10s);
  EXPECT_EQ(clock.stood_still(start + 107s), 15s);
  EXPECT_EQ(clock.reaches(30s), start + 122s);
}

TEST_F(ProgressClocks, AStepNowAndThenDoesNotStartThemAnew) {
  for (auto at = 10s; at <= 50s; at += 10s) clock.progressed(start + at);

  EXPECT_EQ(clock.stood_still(start + 50s), 10s + 4 * 8s);
}

}  // namespace
}  // namespace mlxs::gateway
