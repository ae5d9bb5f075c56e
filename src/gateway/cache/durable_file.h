#pragma once

#include "base/result.h"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// A file that appears under its name complete or not at all: written beside it, flushed to the
/// disk, then renamed, folder included, so that not even a power cut leaves half of it. Without
/// `commit` nothing happened. Blocking; errors are kIo and name the path.
class DurableFile {
 public:
  /// Makes the folder (for the user only) where it is missing.
  [[nodiscard]] static Result<DurableFile> create(const std::filesystem::path& path);
  DurableFile(DurableFile&& other) noexcept;
  DurableFile& operator=(DurableFile&&) = delete;
  ~DurableFile();

  [[nodiscard]] Result<void> write(std::string_view bytes);
  [[nodiscard]] Result<void> commit();

 private:
  DurableFile(std::filesystem::path path, std::filesystem::path temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_;
};

/// Makes a folder of the state, for the user only, where it is missing. Blocking; kIo.
[[nodiscard]] Result<void> make_folder(const std::filesystem::path& folder);

/// The whole file; kNotFound where there is none, kIo beyond `bytes_max`.
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path,
                                            std::size_t bytes_max);

}  // namespace mlxs::gateway
