#include "engine/ops/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <vector>

namespace mlxs::engine {
namespace {

TEST(Parallel, EveryPieceRunsOnce) {
  set_compute_threads(4);
  for (int round = 0; round < 20'000; ++round) {
    const int count = round % 37;
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
    parallel_for(count, [&](int i) { ++runs[static_cast<std::size_t>(i)]; });
    ASSERT_TRUE(std::ranges::all_of(runs, [](const auto& n) { return n == 1; })) << round;
  }
}

TEST(Parallel, RangesCoverAllRows) {
  for (const int rows : {0, 1, 3, 100, 1001}) {
    for (const int cost : {1, 1000, 1'000'000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(rows));
      parallel_rows(rows, cost, [&](int first, int last) {
        for (int i = first; i < last; ++i) ++runs[static_cast<std::size_t>(i)];
      });
      EXPECT_TRUE(std::ranges::all_of(runs, [](const auto& n) { return n == 1; }));
    }
  }
}

TEST(Parallel, ThreadsFollowTheSetting) {
  set_compute_threads(3);
  EXPECT_EQ(compute_threads(), 3);
  set_compute_threads(0);
  EXPECT_GE(compute_threads(), 1);
}

}  // namespace
}  // namespace mlxs::engine
