#pragma once

#include "base/ids.h"
#include "gateway/cache/answer_store.h"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace mlxs::gateway {

/// An answer that is one text.
class TextAnswer : public StoredAnswer {
 public:
  explicit TextAnswer(std::string text, std::size_t bytes = 0)
      : text_(std::move(text)), bytes_(bytes == 0 ? text_.size() : bytes) {}
  [[nodiscard]] std::size_t bytes() const override { return bytes_; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::size_t bytes_;
};

inline std::string text_of(const Hit& hit) {
  return static_cast<const TextAnswer&>(*hit.answer).text();
}

inline FingerprintPtr fingerprint_of(const std::string& canonical,
                                     const std::string& tenant = "",
                                     const std::string& model = "m") {
  return std::make_shared<const Fingerprint>(Fingerprint{
      .digest = sha256(canonical), .canonical = canonical, .tenant = tenant, .model = model});
}

/// An empty folder that goes with its content.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() / random_id("mlxs-cache-test-")) {
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace mlxs::gateway
