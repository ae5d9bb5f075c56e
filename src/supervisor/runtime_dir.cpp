#include "supervisor/runtime_dir.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace mlxs::supervisor {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "mlx-serving.";
// macOS has 104 bytes for a socket's path; ours is BASE/mlx-serving.XXXXXX/wNNNN.sock.
constexpr std::size_t kBaseBytesMax = 70;
// A folder without a lock may be one whose supervisor is just starting.
constexpr std::chrono::minutes kUnlockedGrace{1};

bool ours(const fs::path& folder) {
  struct stat status{};
  return ::lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
         status.st_uid == ::geteuid();
}

bool stale(const fs::path& folder) {
  Fd lock{::open((folder / "lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (lock.valid()) return ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
  std::error_code error;
  const auto written = fs::last_write_time(folder, error);
  return !error && fs::file_time_type::clock::now() - written > kUnlockedGrace;
}

void remove_stale(const fs::path& base) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator{base, error}) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    std::error_code ignored;
    if (ours(entry.path()) && stale(entry.path())) fs::remove_all(entry.path(), ignored);
  }
}

Error io_error(const fs::path& path) {
  return fail(ErrorCode::kIo,
              fmt::format("[supervisor] cannot use {}: {}", path.string(), std::strerror(errno)));
}

}  // namespace

Result<RuntimeDir> RuntimeDir::create() {
  for (const char* const name : {"XDG_RUNTIME_DIR", "TMPDIR"}) {
    const char* const value = std::getenv(name);
    std::error_code error;
    if (value == nullptr || std::strlen(value) > kBaseBytesMax || !fs::is_directory(value, error))
      continue;
    if (auto made = create_below(value)) return made;
  }
  return create_below("/tmp");
}

Result<RuntimeDir> RuntimeDir::create_below(const fs::path& base) {
  remove_stale(base);
  std::string path = (base / kPrefix).string() + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return io_error(path);
  // The lock gets its name only once it is held, so that nobody finds it free in between.
  const fs::path unnamed = fs::path{path} / "lock.new";
  Fd lock{::open(unnamed.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!lock.valid() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 ||
      ::rename(unnamed.c_str(), (fs::path{path} / "lock").c_str()) != 0) {
    Error error = io_error(path);
    std::error_code ignored;
    fs::remove_all(path, ignored);
    return error;
  }
  return RuntimeDir{path, std::move(lock)};
}

RuntimeDir::~RuntimeDir() {
  if (!lock_.valid()) return;  // moved from
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace mlxs::supervisor
