#include "hub/source.h"

#include <algorithm>
#include <cstddef>

namespace mlxs::hub {
namespace {

constexpr std::size_t kNameBytesMax = 96;       // The hub's own limit for a name.
constexpr std::size_t kRevisionBytesMax = 255;  // A file name's on every file system.
constexpr std::size_t kPathBytesMax = 1024;

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

/// The hub's rule for the names of owners and repositories.
bool is_name(std::string_view name) {
  const auto at_edge = [](char c) { return c == '-' || c == '.'; };
  return !name.empty() && name.size() <= kNameBytesMax && std::ranges::all_of(name, is_plain) &&
         !at_edge(name.front()) && !at_edge(name.back()) &&
         name.find("--") == std::string_view::npos && name.find("..") == std::string_view::npos;
}

/// What git takes for a branch's name, and a URL and a file system for a path.
bool is_revision(std::string_view revision) {
  return revision.size() <= kRevisionBytesMax && is_inner_path(revision) &&
         std::ranges::all_of(revision, [](char c) { return is_plain(c) || c == '/' || c == '+'; });
}

}  // namespace

bool is_inner_path(std::string_view path) {
  if (path.empty() || path.size() > kPathBytesMax) return false;
  while (true) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.find('\\') != std::string_view::npos ||
        std::ranges::any_of(part, [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      return false;
    if (slash == path.size()) return true;
    path.remove_prefix(slash + 1);
  }
}

bool is_commit(std::string_view revision) {
  return revision.size() == 40 && std::ranges::all_of(revision, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::optional<Source> parse_source(std::string_view text) {
  Source source;
  if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    source.file = text.substr(colon + 1);
    if (!is_inner_path(source.file) || !source.file.ends_with(".gguf")) return std::nullopt;
    text = text.substr(0, colon);
  }
  if (const std::size_t at = text.find('@'); at != std::string_view::npos) {
    source.revision = text.substr(at + 1);
    if (!is_revision(source.revision)) return std::nullopt;
    text = text.substr(0, at);
  }
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  if (!is_name(text.substr(0, slash)) || !is_name(text.substr(slash + 1))) return std::nullopt;
  if (text.ends_with(".gguf")) return std::nullopt;
  source.repository = text;
  return source;
}

std::string Source::to_string() const {
  return repository + (revision == "main" ? "" : "@" + revision) + (file.empty() ? "" : ":" + file);
}

}  // namespace mlxs::hub
