#include "supervisor/restart_policy.h"

#include <gtest/gtest.h>

#include <chrono>

namespace mlxs::supervisor {
namespace {

using std::chrono::seconds;

constexpr TimePoint kStart{seconds{1000}};

TEST(RestartPolicy, TheDelayDoublesUpToItsMaximum) {
  RestartPolicy policy{RestartLimits{}};
  TimePoint now = kStart;

  for (const int expected : {100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
    const auto delay = policy.exited(now);
    ASSERT_TRUE(delay);
    EXPECT_EQ(delay->count(), expected);
    now += *delay;
  }
}

TEST(RestartPolicy, ACrashLoopIsGivenUpAfterTenRestartsInAMinute) {
  RestartPolicy policy{RestartLimits{}};
  TimePoint now = kStart;
  for (int i = 0; i < 10; ++i) now += policy.exited(now).value();

  EXPECT_FALSE(policy.exited(now));
}

TEST(RestartPolicy, AProcessThatEndsNowAndThenIsRestartedForever) {
  RestartPolicy policy{RestartLimits{}};
  TimePoint now = kStart;

  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(policy.exited(now)) << i;
    now += seconds{7};
  }
}

TEST(RestartPolicy, AHealthyTimeStartsTheDelayOver) {
  RestartPolicy policy{RestartLimits{}};
  (void)policy.exited(kStart);
  (void)policy.exited(kStart);

  policy.ready(kStart + seconds{1});
  EXPECT_EQ(policy.exited(kStart + seconds{11}), Milliseconds{100});
}

TEST(RestartPolicy, AShortReadyTimeDoesNotStartTheDelayOver) {
  RestartPolicy policy{RestartLimits{}};
  (void)policy.exited(kStart);
  (void)policy.exited(kStart);

  policy.ready(kStart + seconds{1});
  EXPECT_EQ(policy.exited(kStart + seconds{2}), Milliseconds{400});
}

TEST(RestartPolicy, AProcessThatWasReadyComesBackAtOnceButOnlyOnce) {
  RestartPolicy policy{RestartLimits{.at_once_when_ready = true}};
  policy.ready(kStart);

  EXPECT_EQ(policy.exited(kStart + seconds{1}), Milliseconds{0});
  policy.ready(kStart + seconds{1});
  EXPECT_EQ(policy.exited(kStart + seconds{2}), Milliseconds{100});
  policy.ready(kStart + seconds{3});
  EXPECT_EQ(policy.exited(kStart + seconds{13}), Milliseconds{0});
}

TEST(RestartPolicy, AProcessThatNeverWasReadyWaits) {
  RestartPolicy policy{RestartLimits{.at_once_when_ready = true}};

  EXPECT_EQ(policy.exited(kStart), Milliseconds{100});
}

TEST(RestartPolicy, ForgivingGivesAllRestartsBack) {
  RestartPolicy policy{RestartLimits{}};
  for (int i = 0; i < 11; ++i) (void)policy.exited(kStart);

  policy.forgive();
  EXPECT_EQ(policy.exited(kStart), Milliseconds{100});
}

}  // namespace
}  // namespace mlxs::supervisor
