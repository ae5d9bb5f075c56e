#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlxs::hub {

/// A model on a hub, written ORG/NAME[@REVISION][:FILE.gguf].
struct Source {
  std::string repository;         ///< "ORG/NAME"
  std::string revision = "main";  ///< A branch, a tag or a commit.
  std::string file = {};          ///< A GGUF of the repository; empty: its safetensors.

  /// As it was written, without a revision that is the default.
  [[nodiscard]] std::string to_string() const;
  bool operator==(const Source&) const = default;
};

/// Nothing if `text` is not written like that: a path with more or fewer folders, one that begins
/// with '.', '/' or '~', and names that no hub allows. "models/x.gguf" is a path as well: a hub's
/// GGUF stands behind a colon. Whether a path of that name exists is for the caller to look at.
[[nodiscard]] std::optional<Source> parse_source(std::string_view text);

/// Whether `revision` names a commit, whose files never change: 40 hexadecimal digits.
[[nodiscard]] bool is_commit(std::string_view revision);

/// Whether `path` stays inside the folder that it is put into.
[[nodiscard]] bool is_inner_path(std::string_view path);

}  // namespace mlxs::hub
