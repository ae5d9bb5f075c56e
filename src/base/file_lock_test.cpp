#include "base/file_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

namespace mlxs {
namespace {

class FileLocks : public testing::Test {
 protected:
  FileLocks() {
    std::string name = testing::TempDir() + "file_lock_XXXXXX";
    folder = ::mkdtemp(name.data());
  }
  ~FileLocks() override { std::filesystem::remove_all(folder); }

  std::filesystem::path folder;
  const std::atomic<bool> never{false};
};

TEST_F(FileLocks, KeepOthersOutUntilTheyAreGone) {
  auto held = std::make_unique<Result<FileLock>>(FileLock::take(folder / "lock", 0600, never));
  ASSERT_TRUE(*held);
  std::atomic<bool> freed{false};
  std::atomic<bool> early{false};

  const auto refused = FileLock::try_take(folder / "lock", 0600);
  std::thread waiting{[&] {
    EXPECT_TRUE(FileLock::take(folder / "lock", 0600, never));
    early = !freed;
  }};
  freed = true;
  held.reset();
  waiting.join();

  ASSERT_TRUE(refused);
  EXPECT_FALSE(*refused);
  EXPECT_FALSE(early);
  const auto again = FileLock::try_take(folder / "lock", 0600);
  EXPECT_TRUE(again && *again);
}

TEST_F(FileLocks, AWaitEndsWhenItIsCancelled) {
  const auto held = FileLock::take(folder / "lock", 0600, never);
  std::atomic<bool> cancelled{false};
  std::thread waiting{[&] {
    const auto taken = FileLock::take(folder / "lock", 0600, cancelled);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, ErrorCode::kCancelled);
  }};

  cancelled = true;
  waiting.join();
}

TEST_F(FileLocks, AMissingFolderIsAnErrorWithThePath) {
  const auto lock = FileLock::try_take(folder / "none/lock", 0600);

  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().code, ErrorCode::kIo);
  EXPECT_THAT(lock.error().message, testing::HasSubstr("none/lock: No such file"));
}

}  // namespace
}  // namespace mlxs
