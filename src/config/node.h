#pragma once

#include "base/result.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::config {

/// A YAML value without the library that read it: what the strict reader needs and no more.
/// Anchors are expanded, tags dropped; each value knows where it was written.
struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  std::string text;            ///< Scalars: as written, quotes removed.
  bool quoted = false;         ///< Scalars: quoted text is never a number, a boolean or null.
  std::string place;           ///< "FILE:LINE", or "--set" for an override.
  std::vector<Node> items;     ///< Lists.
  std::vector<Entry> entries;  ///< Maps, in order; keys are unique.

  /// The value at `key` of a map, or nullptr.
  [[nodiscard]] const Node* find(std::string_view key) const;
};

struct Node::Entry {
  std::string key;
  std::string place;
  Node value;
};

/// Reads one YAML document. kConfig errors read "FILE:LINE: what is wrong": malformed YAML, keys
/// that occur twice or are not plain text, several documents, more than 100 000 values (a file of
/// nested anchors would otherwise fill the memory). An empty document is null.
[[nodiscard]] Result<Node> read_yaml(std::string_view text, std::string_view file);

/// Puts each "a.b[0].c=value" into `root`, making maps and the next list element where they are
/// missing. kConfig errors name the override.
[[nodiscard]] Result<void> apply_overrides(Node& root, std::span<const std::string> overrides);

}  // namespace mlxs::config
