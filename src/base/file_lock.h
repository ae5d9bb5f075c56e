#pragma once

#include "base/result.h"

#include <atomic>
#include <filesystem>
#include <optional>
#include <utility>

namespace mlxs {

/// flock(2) on a file, released with this object or with its process, however that ends. The file
/// is made where it is missing, with `mode` as far as the umask lets it; its folder must be there.
/// Errors are kIo and name the path. Any thread; advisory, so it keeps out only who asks for it.
class FileLock {
 public:
  /// Waits until nobody else has it. kCancelled soon after `cancelled` was set.
  [[nodiscard]] static Result<FileLock> take(const std::filesystem::path& path,
                                             unsigned mode,
                                             const std::atomic<bool>& cancelled);
  /// Nothing while another has it.
  [[nodiscard]] static Result<std::optional<FileLock>> try_take(const std::filesystem::path& path,
                                                                unsigned mode);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace mlxs
