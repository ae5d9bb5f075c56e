#include "base/deadline.h"

#include <gtest/gtest.h>

namespace mlxs {
namespace {

using std::chrono::hours;

TEST(Deadline, IsUnreachableByDefault) {
  const Deadline deadline;

  EXPECT_FALSE(deadline.reachable());
  EXPECT_FALSE(deadline.passed());
  EXPECT_FALSE(deadline.left().has_value());
}

TEST(Deadline, SaturatesInsteadOfOverflowing) {
  EXPECT_FALSE(Deadline::after(Milliseconds::max()).reachable());
}

TEST(Deadline, PassesAtItsTimeAndThenLeavesNothing) {
  const TimePoint now = Clock::now();
  const Deadline deadline = Deadline::after(Milliseconds{50}, now);

  EXPECT_FALSE(deadline.passed(now + Milliseconds{49}));
  EXPECT_TRUE(deadline.passed(now + Milliseconds{50}));
  EXPECT_EQ(deadline.left(now + hours{1}), Milliseconds{0});
  EXPECT_EQ(deadline.left(now + Milliseconds{20}), Milliseconds{30});
}

TEST(Deadline, SoonerIsTheEarlierOfTwo) {
  const Deadline early = Deadline::after(Milliseconds{1});

  EXPECT_EQ(Deadline::sooner(early, Deadline{}), early);
  EXPECT_EQ(Deadline::sooner(Deadline{}, early), early);
}

}  // namespace
}  // namespace mlxs
