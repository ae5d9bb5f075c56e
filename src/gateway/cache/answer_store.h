#pragma once

#include "base/deadline.h"
#include "gateway/cache/epochs.h"
#include "gateway/sharing/fingerprint.h"
#include "telemetry/metrics.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mlxs::gateway {

/// What is kept: a complete answer, as its flight's log left it. Immutable; any thread.
class StoredAnswer {
 public:
  virtual ~StoredAnswer() = default;
  /// What it takes in memory.
  [[nodiscard]] virtual std::size_t bytes() const = 0;
};
using StoredAnswerPtr = std::shared_ptr<const StoredAnswer>;

enum class Layer : std::uint8_t { kDedup, kPromptCache };
[[nodiscard]] std::string_view to_string(Layer layer);

/// An answer with all that decides how long and for whom it is kept.
struct KeptAnswer {
  FingerprintPtr fingerprint;
  StoredAnswerPtr answer;
  Stamp admitted{};                     ///< Epochs::now() at the admission of its flight.
  TimePoint completed;                  ///< Ages and lifetimes count from here.
  Clock::duration dedup_ttl{0};         ///< Zero: not for dedup.
  Clock::duration prompt_cache_ttl{0};  ///< Zero: not for the prompt cache.
  Clock::duration grace{0};             ///< After prompt_cache_ttl: stale (foreign models).
};

/// The right, held by one caller at a time, to fetch a stale answer anew. Keep it with the flight
/// that does so: when it is destroyed and no newer answer came, the next caller gets it.
class RefreshClaim {
 public:
  RefreshClaim() = default;
  explicit RefreshClaim(std::shared_ptr<std::atomic<bool>> taken) : taken_(std::move(taken)) {}
  RefreshClaim(RefreshClaim&&) noexcept = default;
  RefreshClaim& operator=(RefreshClaim&& other) noexcept {
    release();
    taken_ = std::move(other.taken_);
    return *this;
  }
  ~RefreshClaim() { release(); }

  [[nodiscard]] explicit operator bool() const { return taken_ != nullptr; }

 private:
  void release() {
    if (taken_) taken_->store(false, std::memory_order_release);
    taken_.reset();
  }
  std::shared_ptr<std::atomic<bool>> taken_;
};

struct Hit {
  StoredAnswerPtr answer;
  Layer layer = Layer::kPromptCache;
  Clock::duration age{0};  ///< Since its completion.
  bool stale = false;      ///< Past its lifetime, within its grace.
  RefreshClaim refresh;    ///< Set for the one caller who is to fetch a stale answer anew.
};

/// Why an answer went.
enum class Eviction : std::uint8_t {
  kEntries,   ///< The number of entries was at its limit.
  kBytes,     ///< Their size was.
  kTtl,       ///< Its lifetimes had passed.
  kFlush,     ///< A flush removed it.
  kReplaced,  ///< A newer answer to the same request took its place.
  kEpoch,     ///< Completed after a flush that covers its admission, so it was not kept.
};
inline constexpr std::array kEvictions{Eviction::kEntries,
                                       Eviction::kBytes,
                                       Eviction::kTtl,
                                       Eviction::kFlush,
                                       Eviction::kReplaced,
                                       Eviction::kEpoch};
[[nodiscard]] std::string_view to_string(Eviction reason);

/// Exact at the moment it was taken.
struct StoreStats {
  struct LayerStats {
    std::size_t entries = 0;  ///< kDedup: those kept for dedup only.
    std::size_t bytes = 0;
    std::uint64_t hits = 0;  ///< kPromptCache: the stale ones included.
  };
  struct ModelStats {
    std::array<LayerStats, 2> layers;  ///< By Layer.
    std::uint64_t stale = 0;           ///< Hits that were stale.
    std::uint64_t misses = 0;
  };
  std::array<LayerStats, 2> layers;
  std::uint64_t stale = 0;
  std::uint64_t misses = 0;
  std::uint64_t inserted = 0;
  std::uint64_t too_large = 0;   ///< Answers beyond the bound of one entry: not kept.
  std::uint64_t collisions = 0;  ///< Equal digests of different requests.
  std::array<std::uint64_t, kEvictions.size()> evictions{};  ///< By Eviction.
  std::map<std::string, ModelStats, std::less<>> models;
};

/// Complete answers by fingerprint: dedup (everything, for a second) and the prompt cache
/// (deterministic answers, for minutes) in one table, since most answers that belong into one
/// belong into both.
///
/// Replacement is segmented LRU: what came once waits on probation, what was asked for again is
/// protected (4/5 of the room), so that a run of one-time prompts cannot wash out the ones that
/// repeat. Answers kept for dedup only form a queue of their own, held to 1/8 of the room, so that
/// a second's sampled traffic cannot displace minutes of cache. An answer larger than 1/8 of
/// `bytes_max` is not kept. All of it O(1) an operation.
///
/// Any thread. One lock, held for a table look-up and a list splice and never while answers are
/// compared or freed; docs/decisions/0008 has the numbers. Time is passed in and only goes forward.
class AnswerStore {
 public:
  struct Limits {
    std::size_t entries_max = 10'000;
    std::size_t bytes_max = std::size_t{256} << 20;
  };
  /// The layers that a caller may be served from.
  struct Wanted {
    bool dedup = true;
    bool prompt_cache = true;
  };

  /// `epochs` outlives it.
  AnswerStore(const Epochs& epochs, Limits limits);
  ~AnswerStore();
  AnswerStore(const AnswerStore&) = delete;
  AnswerStore& operator=(const AnswerStore&) = delete;

  /// The answer kept for `fingerprint`, its canonical bytes compared in full; nothing if there is
  /// none in the wanted layers, or a flush has covered it.
  [[nodiscard]] std::optional<Hit> find(const Fingerprint& fingerprint,
                                        Wanted wanted,
                                        TimePoint now);
  /// Keeps an answer in place of an older one. False if it was not kept: no layer takes it, it is
  /// too large, a newer one is there, or a flush has covered its admission.
  bool insert(KeptAnswer kept, TimePoint now);

  /// From now on `find` observes there how long it takes. Before any other thread uses the store.
  void measure_lookups(telemetry::Histogram& seconds) { lookup_seconds_ = &seconds; }

  /// Makes room at once where they shrink.
  void set_limits(Limits limits, TimePoint now);
  /// Removes what flushes have covered.
  void drop_flushed();
  /// Removes what has expired: looks at no more than `entries` entries, going on where the last
  /// call ended.
  void drop_expired(std::size_t entries, TimePoint now);

  /// Everything in the prompt cache, least recently used first.
  [[nodiscard]] std::vector<KeptAnswer> prompt_cache(TimePoint now) const;
  [[nodiscard]] StoreStats stats() const;

 private:
  enum class Segment : std::uint8_t { kDedupOnly, kProbation, kProtected };
  struct Entry;
  /// Intrusive: the most recently used entry first.
  struct List {
    Entry* first = nullptr;
    Entry* last = nullptr;
    std::size_t entries = 0;
    std::size_t bytes = 0;
  };
  struct Record;
  using RecordPtr = std::shared_ptr<const Record>;
  using Table = std::unordered_map<Sha256, Entry, DigestHash>;
  using Dropped = std::vector<RecordPtr>;  // freed after the lock is

  [[nodiscard]] List& list(Segment segment) { return lists_[static_cast<std::size_t>(segment)]; }
  [[nodiscard]] std::size_t entries() const;
  [[nodiscard]] std::size_t bytes() const;
  void link(Entry& entry, Segment segment);
  void unlink(Entry& entry);
  void touch(Entry& entry);
  void miss(const Fingerprint& fingerprint);
  void count_hit(StoreStats::ModelStats& model, const Hit& hit, std::int64_t by);
  void remove(Entry& entry, Eviction reason, Dropped& dropped);
  void make_room(std::size_t entries, std::size_t bytes, TimePoint now, Dropped& dropped);
  void bound_dedup_only(std::size_t entries, std::size_t bytes, Dropped& dropped);
  void drop_expired_dedup(TimePoint now, Dropped& dropped);

  [[nodiscard]] std::optional<Hit> look_up(const Fingerprint& fingerprint,
                                           Wanted wanted,
                                           TimePoint now);

  const Epochs& epochs_;
  telemetry::Histogram* lookup_seconds_ = nullptr;
  mutable std::mutex mutex_;
  Limits limits_;
  Table table_;
  std::array<List, 3> lists_;
  std::uint64_t uses_ = 0;
  std::size_t sweep_bucket_ = 0;
  StoreStats stats_;
};

}  // namespace mlxs::gateway
