#include "hub/partial_file.h"

#include "hub/cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

namespace mlxs::hub {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

std::error_code last_error() { return {errno, std::generic_category()}; }

}  // namespace

PartialFile::PartialFile(int fd, std::filesystem::path blob, std::string etag, std::uint64_t size)
    : fd_(fd),
      blob_(std::move(blob)),
      path_(blob_.string() + ".incomplete"),
      etag_(std::move(etag)),
      size_(size) {
  hash_.emplace(etag_, size_);
}

PartialFile::~PartialFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::unique_ptr<PartialFile>> PartialFile::open(std::filesystem::path blob,
                                                       std::string etag,
                                                       std::uint64_t size,
                                                       const std::atomic<bool>& cancelled) {
  std::error_code error;
  std::filesystem::create_directories(blob.parent_path(), error);
  if (error) return io_error("make", blob.parent_path(), error);
  const std::string path = blob.string() + ".incomplete";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return io_error("open", path, last_error());
  std::unique_ptr<PartialFile> file{new PartialFile{fd, std::move(blob), std::move(etag), size}};
  MLXS_TRY(file->take_up(cancelled));
  return file;
}

Result<void> PartialFile::take_up(const std::atomic<bool>& cancelled) {
  struct ::stat status{};
  if (::fstat(fd_, &status) != 0) return io_error("read", path_, last_error());
  if (static_cast<std::uint64_t>(status.st_size) > size_) return restart();
  std::vector<char> buffer(kReadBytes);
  while (true) {
    if (cancelled) return fail(ErrorCode::kCancelled, "[hub] stopped");
    const ssize_t count = ::pread(fd_, buffer.data(), buffer.size(), static_cast<::off_t>(done_));
    if (count < 0) return io_error("read", path_, last_error());
    if (count == 0) return {};
    hash_->add({buffer.data(), static_cast<std::size_t>(count)});
    done_ += static_cast<std::uint64_t>(count);
  }
}

Result<void> PartialFile::append(std::string_view bytes) {
  hash_->add(bytes);
  while (!bytes.empty()) {
    // At a place, not at the end: should a file system not honour locks, two processes that write
    // the same file write the same bytes.
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<::off_t>(done_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("write", path_, last_error());
    bytes.remove_prefix(static_cast<std::size_t>(count));
    done_ += static_cast<std::uint64_t>(count);
  }
  return {};
}

Result<void> PartialFile::restart() {
  if (::ftruncate(fd_, 0) != 0) return io_error("empty", path_, last_error());
  hash_.emplace(etag_, size_);
  done_ = 0;
  return {};
}

bool PartialFile::right() { return done_ == size_ && hash_->finish() == etag_; }

Result<void> PartialFile::publish() {
  if (::fsync(fd_) != 0) return io_error("write", path_, last_error());
  std::error_code error;
  std::filesystem::rename(path_, blob_, error);
  if (error) return io_error("name", blob_, error);
  return {};
}

void PartialFile::discard() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace mlxs::hub
