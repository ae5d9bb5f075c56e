#include "engine/load/packed_store.h"

#include <spdlog/spdlog.h>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".packed";
constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::chrono::hours kAbandoned{1};  ///< An unfinished file that nobody wrote to since.

void remove_file(const fs::path& file) {
  std::error_code ignored;
  fs::remove(file, ignored);
}

struct Kept {
  fs::path path;
  fs::file_time_type used;
  std::uint64_t bytes;
};

/// The files of the folder, those first that were not used for longest. Removes what other writers
/// left half done.
std::vector<Kept> kept_files(const fs::path& folder) {
  std::vector<Kept> files;
  std::error_code error;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    const auto used = entry->last_write_time(gone);
    const auto bytes = gone ? 0 : entry->file_size(gone);
    if (gone) continue;
    if (entry->path().native().ends_with(kUnfinished) && now - used > kAbandoned)
      remove_file(entry->path());
    if (entry->path().extension() == kExtension) files.push_back({entry->path(), used, bytes});
  }
  std::ranges::sort(files, {}, &Kept::used);
  return files;
}

}  // namespace

PackedStore::PackedStore(PackedFolder folder, std::string_view made_of)
    : folder_(std::move(folder)), key_(sha256(made_of)), file_(folder_.path) {
  constexpr std::size_t kNameDigits = 32;
  file_ /= to_hex(key_).substr(0, kNameDigits) + std::string(kExtension);
}

PackedMatrices PackedStore::read() const {
  if (folder_.bytes_max == 0) return {};
  const auto begin = std::chrono::steady_clock::now();
  auto matrices = [&]() -> Result<PackedMatrices> {
    try {
      return read_packed_file(file_, key_);
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kOutOfMemory, "[packed] no memory for " + file_.string());
    }
  }();
  if (!matrices) {
    if (matrices.error().code == ErrorCode::kNotFound) return {};
    spdlog::warn("{}; the weights are packed again", matrices.error().message);
    if (matrices.error().code == ErrorCode::kCorruptFile) remove_file(file_);
    return {};
  }
  std::error_code ignored;
  fs::last_write_time(file_, fs::file_time_type::clock::now(), ignored);  // It was of use.
  spdlog::info("[packed] {} MiB of weights read from {} in {} ms",
               packed_bytes(*matrices) / kMiB,
               file_.string(),
               std::chrono::duration_cast<std::chrono::milliseconds>(
                   std::chrono::steady_clock::now() - begin)
                   .count());
  return std::move(*matrices);
}

void PackedStore::keep(PackedMatrices matrices) {
  if (folder_.bytes_max == 0 || matrices.empty()) return;
  const std::uint64_t bytes = packed_bytes(matrices);
  if (bytes > folder_.bytes_max) {
    spdlog::info(
        "[packed] {} MiB of packed weights are more than the {} MiB that may be kept in {}",
        bytes / kMiB,
        folder_.bytes_max / kMiB,
        folder_.path.string());
    return;
  }
  writer_ = std::jthread([this, matrices = std::move(matrices)](const std::stop_token& stop) {
#ifdef __linux__
    ::setpriority(PRIO_PROCESS, 0, 19);  // Of this thread.
#endif
    write(matrices, stop);
  });
}

void PackedStore::write(const PackedMatrices& matrices, const std::stop_token& stop) const {
  std::error_code error;
  fs::create_directories(folder_.path, error);
  if (error) {
    spdlog::warn("[packed] cannot make {}: {}", folder_.path.string(), error.message());
    return;
  }
  make_room(packed_bytes(matrices));
  const auto written = write_packed_file(file_, key_, matrices, stop);
  if (written) {
    spdlog::info(
        "[packed] {} MiB of weights kept in {}", packed_bytes(matrices) / kMiB, file_.string());
  } else if (written.error().code != ErrorCode::kShuttingDown) {
    spdlog::warn("{}; the next start packs again", written.error().message);
  }
}

void PackedStore::make_room(std::uint64_t bytes) const {
  const auto files = kept_files(folder_.path);
  std::uint64_t total = bytes;
  for (const Kept& file : files) total += file.path == file_ ? 0 : file.bytes;
  for (const Kept& file : files) {
    if (total <= folder_.bytes_max) return;
    if (file.path == file_) continue;
    spdlog::info("[packed] {} goes to make room", file.path.string());
    remove_file(file.path);
    total -= file.bytes;
  }
}

}  // namespace mlxs::engine
