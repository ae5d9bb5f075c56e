#include "gateway/cache/durable_file.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace mlxs::gateway {
namespace {

Error io_error(std::string_view what, const std::filesystem::path& path) {
  return fail(ErrorCode::kIo,
              fmt::format("[state] cannot {} {}: {}", what, path.string(), std::strerror(errno)));
}

// macOS leaves data in the drive's cache on fsync.
bool flush_to_disk(int fd) {
#ifdef F_FULLFSYNC
  if (::fcntl(fd, F_FULLFSYNC) == 0) return true;
#endif
  return ::fsync(fd) == 0;
}

}  // namespace

Result<void> make_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return {};
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  std::filesystem::create_directories(folder, error);
  if (error)
    return fail(
        ErrorCode::kIo,
        fmt::format("[state] cannot make the folder {}: {}", folder.string(), error.message()));
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  return {};
}

Result<DurableFile> DurableFile::create(const std::filesystem::path& path) {
  MLXS_TRY(make_folder(path.parent_path()));
  // Its own name for each process: two that write at once must not write into one file.
  std::filesystem::path temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return io_error("write", temporary);
  return DurableFile{path, std::move(temporary), fd};
}

DurableFile::DurableFile(DurableFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      fd_(std::exchange(other.fd_, -1)) {}

DurableFile::~DurableFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

Result<void> DurableFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("write", temporary_);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

Result<void> DurableFile::commit() {
  if (!flush_to_disk(fd_)) return io_error("write", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return io_error("write", path_);
  ::close(std::exchange(fd_, -1));
  const std::filesystem::path folder =
      path_.has_parent_path() ? path_.parent_path() : std::filesystem::path{"."};
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return io_error("open", folder);
  const bool flushed = flush_to_disk(folder_fd);
  ::close(folder_fd);
  if (!flushed) return io_error("write", folder);
  return {};
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t bytes_max) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT)
      return fail(ErrorCode::kNotFound, fmt::format("[state] there is no {}", path.string()));
    return io_error("read", path);
  }
  std::string bytes;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t count = ::read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || bytes.size() + static_cast<std::size_t>(count) > bytes_max) {
      Error error = io_error("read", path);
      ::close(fd);
      if (count == 0) return bytes;
      if (count > 0)
        error.message = fmt::format("[state] {} is longer than {} bytes", path.string(), bytes_max);
      return error;
    }
    bytes.append(buffer, static_cast<std::size_t>(count));
  }
}

}  // namespace mlxs::gateway
