#pragma once

#include "base/hash.h"
#include "gateway/sharing/fingerprint.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace mlxs::gateway {

/// How many flushes there had been when something was admitted. Kept with flights, entries and
/// snapshots; never compared with a stamp of another lineage.
enum class Stamp : std::uint64_t {};

/// What a flush covers.
struct FlushScope {
  enum class Kind { kAll, kTenant, kModel, kKey };
  Kind kind = Kind::kAll;
  std::string name = {};  ///< kTenant: the API key's name; kModel: the model's id.
  Sha256 digest = {};     ///< kKey: a fingerprint's.
};

/// The flushes so far, as they are persisted: for each scope the count at its last one.
struct EpochState {
  /// Bound of each map below. Beyond it the oldest entry becomes a flush of everything admitted
  /// before it: too much is flushed rather than too little.
  static constexpr std::size_t kScopesMax = 4096;

  std::string lineage;  ///< Random; another one means that the history was lost.
  std::uint64_t count = 0;
  std::uint64_t all = 0;
  std::map<std::string, std::uint64_t, std::less<>> tenants = {};
  std::map<std::string, std::uint64_t, std::less<>> models = {};
  std::map<Sha256, std::uint64_t> keys = {};

  /// Adds one flush.
  void flush(const FlushScope& scope);
  /// The flushes of both, under `other`'s lineage. Safe for stamps of either: they can come out as
  /// flushed though they were not, never the other way round.
  void merge(const EpochState& other);
  [[nodiscard]] bool fresh(std::uint64_t stamp, const Fingerprint& subject) const;
  bool operator==(const EpochState&) const = default;

 private:
  void bound();
};

/// Decides what a flush made obsolete (R-CACHE-5). Whatever is kept or under way carries the stamp
/// of its admission; it may be used while no later flush covers it, which is asked on every read,
/// join and insert. A flush is therefore in force at once, everywhere, whatever it takes to remove
/// what it made obsolete. Any thread.
class Epochs {
 public:
  explicit Epochs(EpochState state);

  /// The stamp for something that is admitted now.
  [[nodiscard]] Stamp now() const { return Stamp{count_.load(std::memory_order_acquire)}; }
  /// Whether what was admitted at `stamp` for `subject` may still be used. One atomic load unless
  /// there was a flush since.
  [[nodiscard]] bool fresh(Stamp stamp, const Fingerprint& subject) const;
  /// Anything admitted before this returns is obsolete, as far as `scope` covers it.
  void flush(const FlushScope& scope);
  /// Takes over the flushes of a state that another process persisted.
  void merge(const EpochState& other);
  [[nodiscard]] EpochState state() const;

 private:
  std::atomic<std::uint64_t> count_;
  mutable std::mutex mutex_;
  EpochState state_;
};

}  // namespace mlxs::gateway
