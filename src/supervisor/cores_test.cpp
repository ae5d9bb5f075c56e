#include "supervisor/cores.h"

#include <gtest/gtest.h>

namespace mlxs::supervisor {
namespace {

TEST(Cores, QuotasAreRoundedUp) {
  EXPECT_EQ(cores_of_cpu_max("200000 100000\n"), 2);
  EXPECT_EQ(cores_of_cpu_max("150000 100000"), 2);
  EXPECT_EQ(cores_of_cpu_max("1000 100000"), 1);
}

TEST(Cores, NoQuotaIsNoLimit) {
  EXPECT_EQ(cores_of_cpu_max("max 100000"), std::nullopt);
  EXPECT_EQ(cores_of_cpu_max(""), std::nullopt);
  EXPECT_EQ(cores_of_cpu_max("-1 100000"), std::nullopt);
}

TEST(Cores, ThereIsAlwaysOne) { EXPECT_GE(cores_available(), 1); }

}  // namespace
}  // namespace mlxs::supervisor
