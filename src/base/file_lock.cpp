#include "base/file_lock.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

namespace mlxs {
namespace {

constexpr std::chrono::milliseconds kLook{20};

Error io_error(std::string_view what, const std::filesystem::path& path) {
  return fail(ErrorCode::kIo,
              fmt::format("[lock] cannot {} {}: {}", what, path.string(), std::strerror(errno)));
}

}  // namespace

Result<FileLock> FileLock::take(const std::filesystem::path& path,
                                unsigned mode,
                                const std::atomic<bool>& cancelled) {
  // Looking again and again, since a waiting flock knows no `cancelled`.
  while (true) {
    auto lock = try_take(path, mode);
    if (!lock) return lock.error();
    if (*lock) return std::move(**lock);
    if (cancelled)
      return fail(ErrorCode::kCancelled,
                  fmt::format("[lock] stopped while another process holds {}", path.string()));
    std::this_thread::sleep_for(kLook);
  }
}

Result<std::optional<FileLock>> FileLock::try_take(const std::filesystem::path& path,
                                                   unsigned mode) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, mode);
  if (fd < 0) return io_error("open", path);
  FileLock lock{fd};
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return std::optional<FileLock>{};
    return io_error("lock", path);
  }
  return std::optional<FileLock>{std::move(lock)};
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace mlxs
