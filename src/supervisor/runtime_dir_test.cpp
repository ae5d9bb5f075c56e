#include "supervisor/runtime_dir.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace mlxs::supervisor {
namespace {

namespace fs = std::filesystem;

class RuntimeDirTest : public ::testing::Test {
 protected:
  RuntimeDirTest() {
    std::string path = ::testing::TempDir() + "mlxs-rt-XXXXXX";
    base_ = ::mkdtemp(path.data());
  }
  ~RuntimeDirTest() override { fs::remove_all(base_); }

  fs::path base_;
};

TEST_F(RuntimeDirTest, IsPrivateAndGoesWithItsOwner) {
  fs::path path;
  {
    const auto made = RuntimeDir::create_below(base_);
    ASSERT_TRUE(made);
    path = made->path();
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
    std::ofstream{path / "w0.sock"} << "x";
  }

  EXPECT_FALSE(fs::exists(path));
}

TEST_F(RuntimeDirTest, WhatAKilledSupervisorLeftIsRemovedByTheNext) {
  const fs::path left = base_ / "mlx-serving.abcdef";
  fs::create_directory(left);
  std::ofstream{left / "lock"} << "";
  std::ofstream{left / "w0.sock"} << "";

  const auto made = RuntimeDir::create_below(base_);

  ASSERT_TRUE(made);
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(RuntimeDirTest, TheFolderOfALivingSupervisorStays) {
  const auto first = RuntimeDir::create_below(base_);
  const fs::path starting = base_ / "mlx-serving.starts";
  fs::create_directory(starting);  // no lock yet

  const auto second = RuntimeDir::create_below(base_);

  ASSERT_TRUE(first && second);
  EXPECT_TRUE(fs::exists(first->path()));
  EXPECT_TRUE(fs::exists(starting));
  EXPECT_NE(first->path(), second->path());
}

TEST_F(RuntimeDirTest, AFolderThatCannotBeMadeIsAnError) {
  const auto made = RuntimeDir::create_below(base_ / "missing");

  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("missing"), std::string::npos);
}

}  // namespace
}  // namespace mlxs::supervisor
