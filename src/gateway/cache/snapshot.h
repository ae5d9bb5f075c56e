#pragma once

#include "base/result.h"
#include "gateway/cache/answer_store.h"
#include "gateway/cache/epochs.h"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace mlxs::gateway {

// The prompt cache in a file, so that a restart does not empty it.
//
// Header: magic, format version, fingerprint version, lineage of the epochs, time of writing,
// number of records. Then each record: length, SHA-256, and the entry with its age, its lifetimes,
// the stamp of its admission and its answer. Then the SHA-256 of header and all record digests.
// Numbers are 64 bits, little endian. Read in two passes: nothing of a file is used before all of
// it has been found sound.

/// How answers become bytes and come back.
struct AnswerCodec {
  /// Appends `answer`.
  void (*encode)(const StoredAnswer& answer, std::string& out);
  /// Null for bytes that are none of `encode`'s.
  StoredAnswerPtr (*decode)(std::string_view bytes);
};

/// Both clocks at one moment: ages are steady, but only the wall clock survives a restart.
struct Moment {
  TimePoint steady;
  std::chrono::system_clock::time_point wall;
  [[nodiscard]] static Moment now() { return {Clock::now(), std::chrono::system_clock::now()}; }
};

struct SnapshotCount {
  std::size_t entries = 0;   ///< Written, or taken over into the store.
  std::size_t left_out = 0;  ///< Loading: expired, flushed or without room.
};

/// Writes the prompt cache of `store` under `path`, complete or not at all. kIo. Blocking.
[[nodiscard]] Result<SnapshotCount> write_snapshot(const std::filesystem::path& path,
                                                   const AnswerStore& store,
                                                   const Epochs& epochs,
                                                   const AnswerCodec& codec,
                                                   Moment now);

/// Fills `store` from `path`, but for what has expired by the wall clock (or is older than
/// `ttl_max`), was flushed, or finds no room. kNotFound without a file; kCorruptFile, with the
/// store left as it was, for a file that is damaged, truncated, of another version, from the
/// future, or whose epochs are lost. Blocking.
[[nodiscard]] Result<SnapshotCount> load_snapshot(const std::filesystem::path& path,
                                                  AnswerStore& store,
                                                  const Epochs& epochs,
                                                  const AnswerCodec& codec,
                                                  Clock::duration ttl_max,
                                                  Moment now);

}  // namespace mlxs::gateway
