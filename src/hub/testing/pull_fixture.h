#pragma once

#include "hub/cache.h"
#include "hub/pull.h"
#include "hub/testing/test_hub.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::hub {

namespace fs = std::filesystem;

inline constexpr const char* kShard = "model-00001-of-00002.safetensors";
inline constexpr const char* kGguf = "name.Q4_1.gguf";
inline const std::atomic<bool> kNever{false};

inline std::string content_of(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator{folder, ignored}) {
    if (!entry.is_directory()) names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::ranges::sort(names);
  return names;
}

/// Pulls from a TestHub into a folder of its own.
class Pull : public ::testing::Test {
 protected:
  Pull() {
    std::string path = ::testing::TempDir() + "mlxs-hub-XXXXXX";
    folder_ = ::mkdtemp(path.data());
    options_.source = *parse_source("org/name");
    options_.environment.cache = folder_ / "hub";
    options_.retries = {.tries_max = 4, .first = Milliseconds{1}, .longest = Milliseconds{4}};
  }
  ~Pull() override { fs::remove_all(folder_); }

  void start(std::map<std::string, TestFile> files) {
    hub_ = std::make_unique<TestHub>(std::move(files));
    options_.environment.endpoint = hub_->hub().url();
  }
  void start_gguf() {
    start(sharded_model());
    options_.source.file = kGguf;
  }

  Result<Pulled> run() const { return pull(options_, kNever); }
  [[nodiscard]] Cache cache() const { return Cache{options_.environment.cache}; }
  [[nodiscard]] fs::path blob(const std::string& file) const {
    return cache().blob("org/name", hub_->files().at(file).etag());
  }
  [[nodiscard]] fs::path incomplete(const std::string& file) const {
    return blob(file).string() + ".incomplete";
  }
  void write_incomplete(const std::string& file, const std::string& bytes) const {
    fs::create_directories(blob(file).parent_path());
    std::ofstream{incomplete(file), std::ios::binary} << bytes;
  }
  /// What storage was asked for of `file`, as ranges ("" for all of it).
  [[nodiscard]] std::vector<std::string> ranges(const std::string& file) const {
    std::vector<std::string> found;
    for (const Asked& asked : hub_->storage().asked(file)) found.push_back(asked.header("range"));
    return found;
  }
  void expect_gguf_is_right(const Result<Pulled>& pulled) const {
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_TRUE(content_of(pulled->path) == hub_->files().at(kGguf).content);
    EXPECT_FALSE(fs::exists(incomplete(kGguf)));
  }

  fs::path folder_;
  std::unique_ptr<TestHub> hub_;
  PullOptions options_;
};

/// Meddles with the first answers only.
inline TestHub::Meddle first(int count, const std::function<std::string(std::string)>& change) {
  auto left = std::make_shared<std::atomic<int>>(count);
  return [left, change](const Asked&, std::string bytes) {
    return (*left)-- > 0 ? change(std::move(bytes)) : bytes;
  };
}

}  // namespace mlxs::hub
