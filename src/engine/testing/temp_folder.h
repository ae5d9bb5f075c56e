#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace mlxs::engine {

/// A folder of the test's own, gone with it.
class TempFolder {
 public:
  TempFolder() {
    std::string path = ::testing::TempDir() + "mlxs-engine-XXXXXX";
    path_ = ::mkdtemp(path.data());
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace mlxs::engine
