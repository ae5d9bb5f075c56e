#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace mlxs::engine {

/// A file mapped read-only into memory. Move-only; the mapping ends with the object, and spans into
/// it with it. Reading after somebody truncated the file raises SIGBUS, so loaders copy what they
/// keep and drop the mapping.
class MappedFile {
 public:
  /// kNotFound when there is no such file, kIo when it cannot be read.
  [[nodiscard]] static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Last modification in nanoseconds since the epoch.
  [[nodiscard]] std::int64_t modified_ns() const { return modified_ns_; }

 private:
  MappedFile() = default;
  void unmap();

  std::span<const std::byte> bytes_;
  std::filesystem::path path_;
  std::int64_t modified_ns_ = 0;
};

/// The whole of a small text file. kNotFound, kIo; kCorruptFile when it is larger than `bytes_max`.
[[nodiscard]] Result<std::string> read_small_file(const std::filesystem::path& path,
                                                  std::size_t bytes_max);

}  // namespace mlxs::engine
