#pragma once

#include "base/result.h"
#include "hub/source.h"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mlxs::hub {

/// The folder that the hub's own tools keep models in, in their layout, so that what either
/// downloaded is there for the other:
///   models--ORG--NAME/refs/REVISION            the commit that a branch or tag stood for
///   models--ORG--NAME/blobs/ETAG               contents, named by their hash
///   models--ORG--NAME/blobs/ETAG.incomplete    what has come so far
///   models--ORG--NAME/snapshots/COMMIT/FILE    a relative link to a blob
///   .locks/models--ORG--NAME/ETAG.lock         flock(2) while a blob is being written
/// Source: huggingface_hub's description of its cache. A value; any thread.
class Cache {
 public:
  explicit Cache(std::filesystem::path root) : root_(std::move(root)) {}

  [[nodiscard]] const std::filesystem::path& root() const { return root_; }
  [[nodiscard]] std::filesystem::path folder(std::string_view repository) const;
  [[nodiscard]] std::filesystem::path blob(std::string_view repository,
                                           std::string_view etag) const;
  [[nodiscard]] std::filesystem::path lock(std::string_view repository,
                                           std::string_view etag) const;
  [[nodiscard]] std::filesystem::path snapshot(std::string_view repository,
                                               std::string_view commit) const;

  /// What an engine can load for `source`: its snapshot's folder, or the GGUF in it. Nothing unless
  /// all of it is there: an interrupted download is not found.
  [[nodiscard]] std::optional<std::filesystem::path> find(const Source& source) const;
  /// The commit that the revision of `source` stands for here.
  [[nodiscard]] std::optional<std::string> commit_of(const Source& source) const;

  /// Makes `file` of a snapshot lead to the blob. kIo.
  [[nodiscard]] Result<void> link(std::string_view repository,
                                  std::string_view commit,
                                  std::string_view file,
                                  std::string_view etag) const;
  /// Writes down what the revision of `source` stands for from now on. kIo.
  [[nodiscard]] Result<void> set_commit(const Source& source, std::string_view commit) const;

 private:
  std::filesystem::path root_;
};

/// The files that hold a model's weights, as its index has them. kCorruptFile names `where`.
[[nodiscard]] Result<std::vector<std::string>> files_of_index(std::string_view json,
                                                              std::string_view where);

/// "[hub] cannot WHAT PATH: why" from errno or an error code.
[[nodiscard]] Error io_error(std::string_view what,
                             const std::filesystem::path& path,
                             std::error_code why);

}  // namespace mlxs::hub
