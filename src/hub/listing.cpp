#include "hub/listing.h"

#include "hub/cache.h"

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace mlxs::hub {
namespace {

namespace json = boost::json;

constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kWhole = "model.safetensors";
constexpr std::size_t kNamedInErrorMax = 12;

/// Beside the weights: what says how to run them and how to turn text into tokens and back.
bool is_wanted(std::string_view path) {
  if (path.find('/') != std::string_view::npos) return path.starts_with("chat_templates/");
  return path == "config.json" || path == "generation_config.json" || path == kIndex ||
         path == "special_tokens_map.json" || path == "added_tokens.json" || path == "vocab.json" ||
         path == "merges.txt" || path.starts_with("tokenizer") || path.starts_with("chat_template");
}

std::optional<std::uint64_t> size_at(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  if (value == nullptr || !value->is_int64() || value->get_int64() < 0) return std::nullopt;
  return static_cast<std::uint64_t>(value->get_int64());
}

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string{value->get_string()} : std::string{};
}

std::optional<RemoteFile> read_file_entry(const json::value& value) {
  const json::object* const object = value.if_object();
  if (object == nullptr) return std::nullopt;
  RemoteFile file{.path = text_at(*object, "rfilename"), .size = size_at(*object, "size")};
  if (!is_inner_path(file.path)) return std::nullopt;
  file.etag = text_at(*object, "blobId");
  if (const json::value* const lfs = object->if_contains("lfs"); lfs != nullptr && lfs->is_object())
    file.etag = text_at(lfs->get_object(), "sha256");
  if (!is_hash(file.etag)) file.etag.clear();
  return file;
}

Error lacks(const Listing& listing, const Source& source, std::string_view what) {
  std::vector<std::string> ggufs;
  for (const RemoteFile& file : listing.files) {
    if (file.path.ends_with(".gguf") && ggufs.size() < kNamedInErrorMax)
      ggufs.push_back(source.repository + ":" + file.path);
  }
  const std::string hint =
      ggufs.empty() ? "" : fmt::format("; its GGUF files are {}", fmt::join(ggufs, ", "));
  return fail(
      ErrorCode::kNotFound,
      fmt::format("[hub] {}@{} has no {}{}", source.repository, source.revision, what, hint));
}

}  // namespace

bool is_hash(std::string_view etag) {
  return (etag.size() == 40 || etag.size() == 64) && std::ranges::all_of(etag, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

const RemoteFile* Listing::find(std::string_view path) const {
  const auto found = std::ranges::find(files, path, &RemoteFile::path);
  return found == files.end() ? nullptr : &*found;
}

Result<Listing> parse_listing(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* const object = value.if_object();
  const json::value* const siblings = object != nullptr ? object->if_contains("siblings") : nullptr;
  if (error || siblings == nullptr || !siblings->is_array())
    return fail(ErrorCode::kCorruptFile, "[hub] the list of files is not what a hub answers");
  Listing listing{.commit = text_at(*object, "sha"), .files = {}};
  if (!is_commit(listing.commit))
    return fail(ErrorCode::kCorruptFile, "[hub] the list of files names no commit");
  for (const json::value& sibling : siblings->get_array()) {
    if (auto file = read_file_entry(sibling)) listing.files.push_back(*std::move(file));
  }
  return listing;
}

Result<Selection> select_files(const Listing& listing, const Source& source) {
  Selection selection;
  if (!source.file.empty()) {
    const RemoteFile* const file = listing.find(source.file);
    if (file == nullptr) return lacks(listing, source, source.file);
    selection.weights.push_back(*file);
    return selection;
  }
  const RemoteFile* const whole = listing.find(kWhole);
  const RemoteFile* const index = listing.find(kIndex);
  if (index != nullptr) {
    selection.index = *index;
  } else if (whole != nullptr) {
    selection.weights.push_back(*whole);
  } else {
    return lacks(listing, source, "model.safetensors");
  }
  for (const std::string_view needed : {"config.json", "tokenizer.json"}) {
    if (listing.find(needed) == nullptr) return lacks(listing, source, needed);
  }
  std::ranges::copy_if(listing.files,
                       std::back_inserter(selection.small),
                       [](const RemoteFile& file) { return is_wanted(file.path); });
  return selection;
}

Result<std::vector<RemoteFile>> select_weights(const Listing& listing,
                                               const Source& source,
                                               std::string_view json) {
  const auto names = files_of_index(json, fmt::format("{}:{}", source.repository, kIndex));
  if (!names) return names.error();
  std::vector<RemoteFile> weights;
  for (const std::string& name : *names) {
    const RemoteFile* const file = listing.find(name);
    if (file == nullptr) return lacks(listing, source, name);
    weights.push_back(*file);
  }
  return weights;
}

}  // namespace mlxs::hub
