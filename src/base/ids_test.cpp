#include "base/ids.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace mlxs {
namespace {

TEST(RandomId, IsPrefixedAndUniqueAcrossThreads) {
  std::mutex mutex;
  std::set<std::string> ids;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int k = 0; k < 1000; ++k) {
        std::string id = random_id("chatcmpl-");
        const std::lock_guard lock{mutex};
        ids.insert(std::move(id));
      }
    });
  for (auto& thread : threads) thread.join();

  EXPECT_EQ(ids.size(), 4000u);
  EXPECT_TRUE(ids.begin()->starts_with("chatcmpl-"));
  EXPECT_EQ(ids.begin()->size(), std::string{"chatcmpl-"}.size() + 24);
}

}  // namespace
}  // namespace mlxs
