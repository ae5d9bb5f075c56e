#pragma once

#include "base/result.h"
#include "gateway/cache/epochs.h"

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// The flushes on disk, in the file `epochs` of the state folder: a line with version and checksum,
/// then JSON. Several processes may share a folder; a save merges what the others wrote. Blocking.
class EpochFile {
 public:
  /// `cancelled` ends a save's wait for another process; it outlives this.
  explicit EpochFile(std::filesystem::path folder, const std::atomic<bool>& cancelled = kNever)
      : folder_(std::move(folder)), cancelled_(cancelled) {}

  /// What was saved. A state with a new lineage where there is no file; kCorruptFile for one that
  /// cannot be trusted.
  [[nodiscard]] Result<EpochState> load() const;
  /// Merges and saves; `epochs` has then taken over what the file had. kIo. A flush that is to be
  /// persisted by this is given again: where another process counted further than this one, it is
  /// repeated, so that it also covers what that one has admitted until now.
  [[nodiscard]] Result<void> save(Epochs& epochs,
                                  const std::optional<FlushScope>& flushed = {}) const;

 private:
  static inline const std::atomic<bool> kNever{false};

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "epochs"; }
  std::filesystem::path folder_;
  const std::atomic<bool>& cancelled_;
};

/// A state without flushes, of a lineage of its own.
[[nodiscard]] EpochState new_epochs();

[[nodiscard]] std::string to_text(const EpochState& state);
/// kCorruptFile.
[[nodiscard]] Result<EpochState> epochs_from_text(std::string_view text);

}  // namespace mlxs::gateway
