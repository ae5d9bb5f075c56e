#include "hub/cache.h"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

namespace mlxs::hub {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kRefBytesMax = 256;

std::string folder_name(std::string_view repository) {
  std::string name = "models--";
  for (const char c : repository) name += c == '/' ? std::string{"--"} : std::string{c};
  return name;
}

/// A name beside `path` that nobody else uses.
fs::path beside(const fs::path& path) {
  static std::atomic<unsigned> next{0};
  return path.string() + fmt::format(".{}.{}.tmp", ::getpid(), next++);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);  // Follows the link: a dangling one is not there.
}

std::string read_file(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Whether all weights are in `folder`.
bool has_weights(const fs::path& folder) {
  const fs::path index = folder / "model.safetensors.index.json";
  if (is_there(index)) {
    const auto files = files_of_index(read_file(index), index.string());
    return files && std::ranges::all_of(
                        *files, [&](const std::string& file) { return is_there(folder / file); });
  }
  return is_there(folder / "model.safetensors");
}

}  // namespace

Error io_error(std::string_view what, const fs::path& path, std::error_code why) {
  return fail(ErrorCode::kIo,
              fmt::format("[hub] cannot {} {}: {}", what, path.string(), why.message()));
}

Result<std::vector<std::string>> files_of_index(std::string_view text, std::string_view where) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const auto* const index = value.if_object();
  const auto* const map = index != nullptr ? index->if_contains("weight_map") : nullptr;
  if (error || map == nullptr || !map->is_object())
    return fail(ErrorCode::kCorruptFile, fmt::format("[hub] {}: has no weight_map", where));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map->get_object()) {
    if (!file.is_string() || !is_inner_path(file.get_string()))
      return fail(ErrorCode::kCorruptFile,
                  fmt::format("[hub] {}: {} is in no file", where, std::string_view{tensor}));
    files.emplace(file.get_string());
  }
  return std::vector<std::string>{files.begin(), files.end()};
}

fs::path Cache::folder(std::string_view repository) const {
  return root_ / folder_name(repository);
}

fs::path Cache::blob(std::string_view repository, std::string_view etag) const {
  return folder(repository) / "blobs" / etag;
}

fs::path Cache::lock(std::string_view repository, std::string_view etag) const {
  return root_ / ".locks" / folder_name(repository) / (std::string{etag} + ".lock");
}

fs::path Cache::snapshot(std::string_view repository, std::string_view commit) const {
  return folder(repository) / "snapshots" / commit;
}

std::optional<std::string> Cache::commit_of(const Source& source) const {
  if (is_commit(source.revision)) return source.revision;
  const fs::path ref = folder(source.repository) / "refs" / source.revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored) || fs::file_size(ref, ignored) > kRefBytesMax)
    return std::nullopt;
  std::string commit = read_file(ref);
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  if (!is_commit(commit)) return std::nullopt;
  return commit;
}

std::optional<fs::path> Cache::find(const Source& source) const {
  const auto commit = commit_of(source);
  if (!commit) return std::nullopt;
  const fs::path folder = snapshot(source.repository, *commit);
  if (!source.file.empty()) {
    const fs::path file = folder / source.file;
    return is_there(file) ? std::optional{file} : std::nullopt;
  }
  if (!is_there(folder / "config.json") || !is_there(folder / "tokenizer.json") ||
      !has_weights(folder))
    return std::nullopt;
  return folder;
}

Result<void> Cache::link(std::string_view repository,
                         std::string_view commit,
                         std::string_view file,
                         std::string_view etag) const {
  const fs::path pointer = snapshot(repository, commit) / file;
  const fs::path target = blob(repository, etag).lexically_relative(pointer.parent_path());
  std::error_code error;
  if (fs::read_symlink(pointer, error) == target) return {};
  fs::create_directories(pointer.parent_path(), error);
  if (error) return io_error("make", pointer.parent_path(), error);
  // Under a name of its own first, so that the link is there or not, never half made.
  const fs::path fresh = beside(pointer);
  fs::create_symlink(target, fresh, error);
  if (error) return io_error("link", fresh, error);
  fs::rename(fresh, pointer, error);
  if (error) return io_error("link", pointer, error);
  return {};
}

Result<void> Cache::set_commit(const Source& source, std::string_view commit) const {
  if (source.revision == commit || commit_of(source) == commit) return {};
  const fs::path ref = folder(source.repository) / "refs" / source.revision;
  std::error_code error;
  fs::create_directories(ref.parent_path(), error);
  if (error) return io_error("make", ref.parent_path(), error);
  const fs::path fresh = beside(ref);
  std::ofstream out{fresh, std::ios::binary | std::ios::trunc};
  out << commit << std::flush;
  if (!out) return io_error("write", fresh, std::error_code{errno, std::generic_category()});
  out.close();
  fs::rename(fresh, ref, error);
  if (error) return io_error("write", ref, error);
  return {};
}

}  // namespace mlxs::hub
