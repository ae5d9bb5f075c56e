#pragma once

#include "base/result.h"
#include "hub/content_hash.h"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::hub {

/// A blob on its way: BLOB.incomplete, which the next try goes on with, becomes BLOB once its hash
/// is right. One thread; the blob's lock is held.
class PartialFile {
 public:
  /// Opens what an earlier try left, or an empty file, and hashes what is there. kIo, kCancelled.
  [[nodiscard]] static Result<std::unique_ptr<PartialFile>> open(
      std::filesystem::path blob,
      std::string etag,
      std::uint64_t size,
      const std::atomic<bool>& cancelled);
  ~PartialFile();
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  [[nodiscard]] std::uint64_t done() const { return done_; }
  /// kIo when the disk does not take them: full, say.
  [[nodiscard]] Result<void> append(std::string_view bytes);
  /// Begins again.
  [[nodiscard]] Result<void> restart();
  /// Whether all bytes are there and have the right hash.
  [[nodiscard]] bool right();
  /// Gives the blob its name; nothing of this object may be used afterwards. kIo.
  [[nodiscard]] Result<void> publish();
  void discard();

 private:
  PartialFile(int fd, std::filesystem::path blob, std::string etag, std::uint64_t size);
  [[nodiscard]] Result<void> take_up(const std::atomic<bool>& cancelled);

  int fd_;
  std::filesystem::path blob_;
  std::filesystem::path path_;
  std::string etag_;
  std::uint64_t size_;
  std::uint64_t done_ = 0;
  std::optional<ContentHash> hash_;
};

}  // namespace mlxs::hub
