#pragma once

#include "base/result.h"
#include "hub/source.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::hub {

/// A file of a repository, as the hub describes it.
struct RemoteFile {
  std::string path;
  std::optional<std::uint64_t> size = {};
  std::string etag = {};  ///< As `is_hash` wants it; empty: the hub did not say.
  bool operator==(const RemoteFile&) const = default;
};

/// What a revision holds.
struct Listing {
  std::string commit;
  std::vector<RemoteFile> files;
  [[nodiscard]] const RemoteFile* find(std::string_view path) const;
};

/// Whether `etag` is a hash of the content: 64 hexadecimal digits are its SHA-256 (large files), 40
/// the SHA-1 of its git blob.
[[nodiscard]] bool is_hash(std::string_view etag);

/// Reads `GET /api/models/ORG/NAME/revision/REV?blobs=true`. kCorruptFile when it is no such thing.
[[nodiscard]] Result<Listing> parse_listing(std::string_view json);

/// The files that an engine needs: configuration, tokenizer and templates, which are small and come
/// first, then the weights, so that a snapshot with all its weights has everything.
struct Selection {
  std::vector<RemoteFile> small;
  std::vector<RemoteFile> weights;       ///< Empty as long as only the index knows them.
  std::optional<RemoteFile> index = {};  ///< One of `small`.
};
/// kNotFound with what there is instead when `source` asks for what the repository lacks.
[[nodiscard]] Result<Selection> select_files(const Listing& listing, const Source& source);
/// The weights that the index in `json` names.
[[nodiscard]] Result<std::vector<RemoteFile>> select_weights(const Listing& listing,
                                                             const Source& source,
                                                             std::string_view json);

}  // namespace mlxs::hub
