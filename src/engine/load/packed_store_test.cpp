#include "engine/load/packed_store.h"

#include "engine/testing/temp_folder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPlenty = 1 << 30;

PackedMatrices one_matrix(float value) {
  const std::vector<float> data(64 * 32, value);
  PackedMatrices matrices;
  matrices["m"] = {std::make_shared<const PackedMatrix>(DenseMatrix{64, 32, data.data()})};
  return matrices;
}

class PackedStoreTest : public testing::Test {
 protected:
  void keep(const std::string& made_of, std::uint64_t bytes_max = kPlenty) const {
    PackedStore store{{path_, bytes_max}, made_of};
    store.keep(one_matrix(1.0f));
    store.wait();
  }
  bool has(const std::string& made_of) const {
    return !PackedStore{{path_, kPlenty}, made_of}.read().empty();
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(path_)) found.push_back(entry.path());
    return found;
  }

  TempFolder folder_;
  fs::path path_ = folder_.path() / "state" / "weights";
};

TEST_F(PackedStoreTest, TheNextStartFindsWhatThisOneKept) {
  EXPECT_FALSE(has("model"));
  keep("model");
  const auto matrices = PackedStore{{path_, kPlenty}, "model"}.read();
  ASSERT_TRUE(matrices.contains("m"));
  std::vector<float> row(32);
  matrices.at("m").front()->unpack_row(63, row.data());
  EXPECT_EQ(row, std::vector<float>(32, 1.0f));
  EXPECT_FALSE(has("model with another layout"));
}

TEST_F(PackedStoreTest, ADamagedFileIsRemovedAndWrittenAnew) {
  keep("model");
  const fs::path file = files().front();
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_FALSE(has("model"));
  EXPECT_FALSE(fs::exists(file));
  keep("model");
  EXPECT_TRUE(has("model"));
}

TEST_F(PackedStoreTest, FilesNotUsedForLongestMakeRoom) {
  keep("first");
  keep("second");
  const auto bytes = fs::file_size(files().front());
  const auto now = fs::file_time_type::clock::now();
  for (const fs::path& file : files()) fs::last_write_time(file, now - std::chrono::hours{24});
  EXPECT_TRUE(has("first"));  // Which is a use.
  keep("third", 2 * bytes + 100);
  EXPECT_TRUE(has("first"));
  EXPECT_FALSE(has("second"));
  EXPECT_TRUE(has("third"));
}

TEST_F(PackedStoreTest, WhatAloneIsLargerThanTheLimitIsNotKept) {
  keep("model", 1000);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(PackedStoreTest, NothingIsReadOrKeptWhereTheLimitIsZero) {
  keep("model");
  EXPECT_TRUE((PackedStore{{path_, 0}, "model"}.read().empty()));
  keep("another", 0);
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(PackedStoreTest, HalfAFileThatNobodyWritesAnyMoreGoes) {
  fs::create_directories(path_);
  const fs::path half = path_ / "x.packed.7.part";
  const fs::path fresh = path_ / "x.packed.8.part";
  std::ofstream{half} << "half";
  std::ofstream{fresh} << "half";
  fs::last_write_time(half, fs::file_time_type::clock::now() - std::chrono::hours{2});
  keep("model");
  EXPECT_FALSE(fs::exists(half));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST_F(PackedStoreTest, AFolderThatCannotBeMadeOnlyCostsThePacking) {
  std::ofstream{folder_.path() / "state"} << "in the way";
  keep("model");
  EXPECT_FALSE(has("model"));
}

}  // namespace
}  // namespace mlxs::engine
