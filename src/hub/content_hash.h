#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace mlxs::hub {

/// The hash by which a hub names a file, taken as the bytes come.
class ContentHash {
 public:
  /// `etag` as `is_hash` wants it says which: SHA-256 of the content, or the SHA-1 that git gives a
  /// blob of `size` bytes.
  ContentHash(std::string_view etag, std::uint64_t size);
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  void add(std::string_view bytes);
  /// Lower-case hexadecimal of all that was added; nothing can be added afterwards.
  [[nodiscard]] std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxs::hub
