#include "engine/load/packed_file.h"

#include "engine/testing/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

using testing::HasSubstr;

const Sha256 kKey = sha256("weights of a test");

std::shared_ptr<const PackedMatrix> affine(int rows, int columns, int bits, float scale) {
  std::vector<std::uint32_t> data(static_cast<std::size_t>(rows * columns * bits / 32));
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<std::uint32_t>(i * 2654435761u + 12345);
  }
  const std::vector<float> scales(static_cast<std::size_t>(rows * columns / 32), scale);
  return std::make_shared<const PackedMatrix>(
      AffineMatrix{rows, columns, bits, 32, data.data(), scales.data(), scales.data()});
}

std::shared_ptr<const PackedMatrix> dense(int rows, int columns, float unit) {
  std::vector<float> data(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = unit * static_cast<float>(i % 7);
  return std::make_shared<const PackedMatrix>(DenseMatrix{rows, columns, data.data()});
}

/// Every form, one name with two.
PackedMatrices all_forms() {
  PackedMatrices matrices;
  matrices["a"] = {affine(17, 64, 4, 0.5f), affine(16, 64, 8, 0.1f)};
  matrices["b+c"] = {affine(3, 32, 8, 0.25f)};
  matrices["bfloat16"] = {dense(5, 7, 1.0f)};
  matrices["half"] = {dense(5, 7, 1.0009765625f)};
  matrices["float"] = {dense(33, 3, 0.1f)};
  return matrices;
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

void write_all(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream{path, std::ios::binary | std::ios::trunc} << bytes;
}

class PackedFileTest : public testing::Test {
 protected:
  Result<void> write(const PackedMatrices& matrices) const {
    return write_packed_file(file_, kKey, matrices, {});
  }
  Error read_error() const {
    const auto read = read_packed_file(file_, kKey);
    return read ? Error{ErrorCode::kInternal, "it was read"} : read.error();
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder_.path()), {}));
  }

  TempFolder folder_;
  std::filesystem::path file_ = folder_.path() / "weights.packed";
};

TEST_F(PackedFileTest, GivesBackEveryForm) {
  const PackedMatrices matrices = all_forms();
  ASSERT_TRUE(write(matrices));
  const auto read = read_packed_file(file_, kKey);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->size(), matrices.size());
  for (const auto& [name, list] : matrices) {
    ASSERT_TRUE(read->contains(name)) << name;
    const auto& got = read->at(name);
    ASSERT_EQ(got.size(), list.size()) << name;
    for (std::size_t i = 0; i < list.size(); ++i) {
      EXPECT_EQ(got[i]->rows(), list[i]->rows());
      EXPECT_EQ(got[i]->columns(), list[i]->columns());
      EXPECT_EQ(got[i]->view().form, list[i]->view().form);
      EXPECT_EQ(got[i]->view().half_scales, list[i]->view().half_scales);
      ASSERT_EQ(got[i]->bytes(), list[i]->bytes());
      EXPECT_EQ(std::memcmp(got[i]->view().data, list[i]->view().data, list[i]->bytes()), 0)
          << name;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(got[i]->view().data) % 64, 0u);
    }
  }
}

TEST_F(PackedFileTest, IsWholeWithMoreThanOnePiece) {
  PackedMatrices matrices;
  matrices["large"] = {dense(700, 1024, 0.1f), dense(300, 1000, 0.1f)};  // Some 4 MiB.
  ASSERT_TRUE(write(matrices));
  const auto read = read_packed_file(file_, kKey);
  ASSERT_TRUE(read) << read.error().message;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& before = *matrices["large"][i];
    EXPECT_EQ(std::memcmp(read->at("large")[i]->view().data, before.view().data, before.bytes()),
              0);
  }
}

TEST_F(PackedFileTest, AnyFlippedBitIsSeen) {
  ASSERT_TRUE(write(all_forms()));
  const std::string whole = read_all(file_);
  constexpr std::size_t kFront = 1024;  // Header, index and checksums, and some of the data.
  for (std::size_t at = 0; at < whole.size(); at += at < kFront ? 1 : 31) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    write_all(file_, damaged);
    ASSERT_EQ(read_error().code, ErrorCode::kCorruptFile) << "byte " << at;
  }
  write_all(file_, whole);
  EXPECT_TRUE(read_packed_file(file_, kKey));
}

TEST_F(PackedFileTest, AFileCutShortOrTooLongIsSeen) {
  ASSERT_TRUE(write(all_forms()));
  const std::string whole = read_all(file_);
  for (std::size_t size = 0; size < whole.size(); size += 61) {
    write_all(file_, whole.substr(0, size));
    ASSERT_EQ(read_error().code, ErrorCode::kCorruptFile) << size << " bytes";
  }
  write_all(file_, whole + "x");
  EXPECT_THAT(read_error().message, HasSubstr("bytes of"));
}

TEST_F(PackedFileTest, AnotherVersionOrKeyIsSeen) {
  ASSERT_TRUE(write(all_forms()));
  EXPECT_THAT(read_packed_file(file_, sha256("another model")).error().message,
              HasSubstr("something else"));
  std::string other = read_all(file_);
  other[8] = 99;
  write_all(file_, other);
  EXPECT_THAT(read_error().message, HasSubstr("another version"));
}

TEST_F(PackedFileTest, WordsThatChangePlacesChangeTheChecksum) {
  std::vector<std::uint64_t> words(64);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = i * i;
  const auto sum = checksum(std::as_bytes(std::span(words)));
  for (std::size_t i = 1; i < words.size(); ++i) {
    std::swap(words[0], words[i]);
    EXPECT_NE(checksum(std::as_bytes(std::span(words))), sum) << i;
    std::swap(words[0], words[i]);
  }
  EXPECT_NE(checksum(std::as_bytes(std::span(words)).first(511)), sum);
}

TEST_F(PackedFileTest, NoSuchFileIsNotFound) { EXPECT_EQ(read_error().code, ErrorCode::kNotFound); }

TEST_F(PackedFileTest, AFullDiskLeavesNothing) {
  // A limit on file sizes refuses writes as a full disk does, half way through.
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 2048, .rlim_max = before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto written = write(all_forms());
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
  EXPECT_EQ(files(), 0u);
}

TEST_F(PackedFileTest, AStoppedWriterLeavesNothing) {
  std::stop_source stop;
  stop.request_stop();
  const auto written = write_packed_file(file_, kKey, all_forms(), stop.get_token());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kShuttingDown);
  EXPECT_EQ(files(), 0u);
}

}  // namespace
}  // namespace mlxs::engine
