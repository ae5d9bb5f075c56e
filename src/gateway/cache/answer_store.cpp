#include "gateway/cache/answer_store.h"

#include "base/assert.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace mlxs::gateway {
namespace {

// The nodes and control blocks around an entry, besides what answer and fingerprint report.
constexpr std::size_t kOverheadBytes = 384;
// Buckets that one hold of the lock walks.
constexpr std::size_t kBucketsAtOnce = 1024;
constexpr std::size_t kDedupOnlyShare = 8;  // of the room, as a divisor
constexpr std::size_t kEntryShare = 8;

std::size_t index(Layer layer) { return static_cast<std::size_t>(layer); }

}  // namespace

std::string_view to_string(Layer layer) {
  return layer == Layer::kDedup ? "dedup" : "prompt_cache";
}

std::string_view to_string(Eviction reason) {
  switch (reason) {
    case Eviction::kEntries:
      return "entries";
    case Eviction::kBytes:
      return "bytes";
    case Eviction::kTtl:
      return "ttl";
    case Eviction::kFlush:
      return "flush";
    case Eviction::kReplaced:
      return "replaced";
    case Eviction::kEpoch:
      return "epoch";
  }
  return "";
}

// Immutable, so that a reader goes on with it after the lock.
struct AnswerStore::Record {
  KeptAnswer kept;
  std::size_t bytes = 0;
  std::shared_ptr<std::atomic<bool>> refreshing;  // only where there is a grace

  [[nodiscard]] TimePoint dedup_end() const { return kept.completed + kept.dedup_ttl; }
  [[nodiscard]] TimePoint fresh_end() const { return kept.completed + kept.prompt_cache_ttl; }
  [[nodiscard]] bool cached() const { return kept.prompt_cache_ttl > Clock::duration{0}; }
  [[nodiscard]] TimePoint end() const {
    return cached() ? std::max(fresh_end() + kept.grace, dedup_end()) : dedup_end();
  }
};

struct AnswerStore::Entry {
  RecordPtr record;
  StoreStats::ModelStats* model = nullptr;
  Entry* newer = nullptr;
  Entry* older = nullptr;
  std::uint64_t used = 0;  // order of use over all segments
  Segment segment = Segment::kProbation;

  [[nodiscard]] Layer layer() const {
    return segment == Segment::kDedupOnly ? Layer::kDedup : Layer::kPromptCache;
  }
};

AnswerStore::AnswerStore(const Epochs& epochs, Limits limits) : epochs_(epochs), limits_(limits) {}

AnswerStore::~AnswerStore() = default;

std::size_t AnswerStore::entries() const {
  return lists_[0].entries + lists_[1].entries + lists_[2].entries;
}

std::size_t AnswerStore::bytes() const {
  return lists_[0].bytes + lists_[1].bytes + lists_[2].bytes;
}

void AnswerStore::link(Entry& entry, Segment segment) {
  List& to = list(segment);
  entry.segment = segment;
  entry.used = ++uses_;
  entry.newer = nullptr;
  entry.older = to.first;
  (to.first != nullptr ? to.first->newer : to.last) = &entry;
  to.first = &entry;
  ++to.entries;
  to.bytes += entry.record->bytes;
  for (auto* layer :
       {&stats_.layers[index(entry.layer())], &entry.model->layers[index(entry.layer())]}) {
    ++layer->entries;
    layer->bytes += entry.record->bytes;
  }
}

void AnswerStore::unlink(Entry& entry) {
  List& from = list(entry.segment);
  (entry.newer != nullptr ? entry.newer->older : from.first) = entry.older;
  (entry.older != nullptr ? entry.older->newer : from.last) = entry.newer;
  --from.entries;
  from.bytes -= entry.record->bytes;
  for (auto* layer :
       {&stats_.layers[index(entry.layer())], &entry.model->layers[index(entry.layer())]}) {
    --layer->entries;
    layer->bytes -= entry.record->bytes;
  }
}

// Asked for again: protected from now on. The segment's overflow goes back on probation, where it
// has one more chance before it is evicted. Dedup-only answers stay in the order of completion.
void AnswerStore::touch(Entry& entry) {
  if (entry.segment == Segment::kDedupOnly) return;
  unlink(entry);
  link(entry, Segment::kProtected);
  const List& kept = list(Segment::kProtected);
  while (kept.last != &entry &&
         (kept.entries > limits_.entries_max / 5 * 4 || kept.bytes > limits_.bytes_max / 5 * 4)) {
    Entry& demoted = *kept.last;
    unlink(demoted);
    link(demoted, Segment::kProbation);
  }
}

void AnswerStore::miss(const Fingerprint& fingerprint) {
  ++stats_.misses;
  if (const auto it = stats_.models.find(fingerprint.model); it != stats_.models.end())
    ++it->second.misses;
}

void AnswerStore::count_hit(StoreStats::ModelStats& model, const Hit& hit, std::int64_t by) {
  const auto more = static_cast<std::uint64_t>(by);  // wraps, as counts do
  stats_.layers[index(hit.layer)].hits += more;
  model.layers[index(hit.layer)].hits += more;
  if (hit.stale) {
    stats_.stale += more;
    model.stale += more;
  }
}

std::optional<Hit> AnswerStore::find(const Fingerprint& fingerprint, Wanted wanted, TimePoint now) {
  if (lookup_seconds_ == nullptr) return look_up(fingerprint, wanted, now);
  const TimePoint began = Clock::now();
  auto hit = look_up(fingerprint, wanted, now);
  lookup_seconds_->observe(std::chrono::duration<double>(Clock::now() - began).count());
  return hit;
}

std::optional<Hit> AnswerStore::look_up(const Fingerprint& fingerprint,
                                        Wanted wanted,
                                        TimePoint now) {
  Dropped dropped;
  RecordPtr record;
  StoreStats::ModelStats* model = nullptr;
  Hit hit;
  {
    const std::lock_guard lock{mutex_};
    const auto it = table_.find(fingerprint.digest);
    if (it == table_.end()) {
      miss(fingerprint);
      return std::nullopt;
    }
    Entry& entry = it->second;
    record = entry.record;
    if (!epochs_.fresh(record->kept.admitted, *record->kept.fingerprint)) {
      remove(entry, Eviction::kFlush, dropped);
      miss(fingerprint);
      return std::nullopt;
    }
    if (now >= record->end()) {
      remove(entry, Eviction::kTtl, dropped);
      miss(fingerprint);
      return std::nullopt;
    }
    const bool deduped = wanted.dedup && now < record->dedup_end();
    const bool cached =
        wanted.prompt_cache && record->cached() && now < record->fresh_end() + record->kept.grace;
    if (!deduped && !cached) {
      miss(fingerprint);
      return std::nullopt;
    }
    hit.layer = deduped ? Layer::kDedup : Layer::kPromptCache;
    hit.stale = !deduped && now >= record->fresh_end();
    hit.age = now - record->kept.completed;
    model = entry.model;
    count_hit(*model, hit, 1);
    touch(entry);
  }
  // Outside the lock, since prompts can be long.
  if (record->kept.fingerprint->canonical != fingerprint.canonical) {
    const std::lock_guard lock{mutex_};
    ++stats_.collisions;
    count_hit(*model, hit, -1);
    miss(fingerprint);
    return std::nullopt;
  }
  if (hit.stale && !record->refreshing->exchange(true, std::memory_order_acq_rel))
    hit.refresh = RefreshClaim{record->refreshing};
  hit.answer = StoredAnswerPtr{record, record->kept.answer.get()};
  return hit;
}

bool AnswerStore::insert(KeptAnswer kept, TimePoint now) {
  MLXS_ASSERT(kept.fingerprint && kept.answer);
  auto record = std::make_shared<Record>();
  record->bytes = kOverheadBytes + kept.answer->bytes() + kept.fingerprint->bytes();
  record->kept = std::move(kept);
  const Fingerprint& fingerprint = *record->kept.fingerprint;
  if (now >= record->end()) return false;
  if (record->cached() && record->kept.grace > Clock::duration{0})
    record->refreshing = std::make_shared<std::atomic<bool>>(false);
  Dropped dropped;
  const std::lock_guard lock{mutex_};
  if (!epochs_.fresh(record->kept.admitted, fingerprint)) {
    ++stats_.evictions[static_cast<std::size_t>(Eviction::kEpoch)];
    return false;
  }
  if (record->bytes > limits_.bytes_max / kEntryShare) {
    ++stats_.too_large;
    return false;
  }
  Segment segment = record->cached() ? Segment::kProbation : Segment::kDedupOnly;
  if (const auto it = table_.find(fingerprint.digest); it != table_.end()) {
    if (it->second.record->kept.completed > record->kept.completed) return false;
    // One that proved itself stays protected when it is fetched anew.
    if (record->cached() && it->second.segment == Segment::kProtected)
      segment = Segment::kProtected;
    remove(it->second, Eviction::kReplaced, dropped);
  }
  drop_expired_dedup(now, dropped);
  if (segment == Segment::kDedupOnly) bound_dedup_only(1, record->bytes, dropped);
  make_room(1, record->bytes, now, dropped);
  Entry& entry = table_[fingerprint.digest];
  entry.model = &stats_.models[fingerprint.model];
  entry.record = std::move(record);
  link(entry, segment);
  ++stats_.inserted;
  return true;
}

void AnswerStore::remove(Entry& entry, Eviction reason, Dropped& dropped) {
  ++stats_.evictions[static_cast<std::size_t>(reason)];
  unlink(entry);
  const FingerprintPtr fingerprint = entry.record->kept.fingerprint;
  dropped.push_back(std::move(entry.record));
  table_.erase(fingerprint->digest);
}

// Those are in the order of their completion; with different lifetimes a longer one in front hides
// expired ones for its second or so, which the sweep finds.
void AnswerStore::drop_expired_dedup(TimePoint now, Dropped& dropped) {
  List& only = list(Segment::kDedupOnly);
  while (only.last != nullptr && now >= only.last->record->end())
    remove(*only.last, Eviction::kTtl, dropped);
}

void AnswerStore::bound_dedup_only(std::size_t entries, std::size_t bytes, Dropped& dropped) {
  List& only = list(Segment::kDedupOnly);
  const std::size_t entries_max = std::max<std::size_t>(1, limits_.entries_max / kDedupOnlyShare);
  const std::size_t bytes_max = limits_.bytes_max / kDedupOnlyShare;
  while (only.last != nullptr && only.entries + entries > entries_max)
    remove(*only.last, Eviction::kEntries, dropped);
  while (only.last != nullptr && only.bytes + bytes > bytes_max)
    remove(*only.last, Eviction::kBytes, dropped);
}

void AnswerStore::make_room(std::size_t more_entries,
                            std::size_t more_bytes,
                            TimePoint now,
                            Dropped& dropped) {
  const auto evict_one = [&](Eviction reason) {
    for (const Segment segment : {Segment::kProbation, Segment::kProtected, Segment::kDedupOnly}) {
      Entry* const oldest = list(segment).last;
      if (oldest == nullptr) continue;
      remove(*oldest, now >= oldest->record->end() ? Eviction::kTtl : reason, dropped);
      return;
    }
  };
  while (entries() > 0 && entries() + more_entries > limits_.entries_max)
    evict_one(Eviction::kEntries);
  while (entries() > 0 && bytes() + more_bytes > limits_.bytes_max) evict_one(Eviction::kBytes);
}

void AnswerStore::set_limits(Limits limits, TimePoint now) {
  Dropped dropped;
  const std::lock_guard lock{mutex_};
  limits_ = limits;
  bound_dedup_only(0, 0, dropped);
  make_room(0, 0, now, dropped);
}

void AnswerStore::drop_flushed() {
  for (std::size_t bucket = 0;;) {
    Dropped dropped;
    const std::lock_guard lock{mutex_};
    const std::size_t end = std::min(table_.bucket_count(), bucket + kBucketsAtOnce);
    std::vector<Entry*> obsolete;
    for (; bucket < end; ++bucket) {
      for (auto it = table_.begin(bucket); it != table_.end(bucket); ++it) {
        const KeptAnswer& kept = it->second.record->kept;
        if (!epochs_.fresh(kept.admitted, *kept.fingerprint)) obsolete.push_back(&it->second);
      }
    }
    for (Entry* entry : obsolete) remove(*entry, Eviction::kFlush, dropped);
    if (end == table_.bucket_count()) return;
  }
}

void AnswerStore::drop_expired(std::size_t entries, TimePoint now) {
  std::size_t looked_at = 0;
  while (looked_at < entries) {
    Dropped dropped;
    const std::lock_guard lock{mutex_};
    if (sweep_bucket_ >= table_.bucket_count()) sweep_bucket_ = 0;
    const std::size_t end = std::min(table_.bucket_count(), sweep_bucket_ + kBucketsAtOnce);
    std::vector<Entry*> expired;
    for (; sweep_bucket_ < end; ++sweep_bucket_) {
      ++looked_at;  // an empty bucket is work too
      for (auto it = table_.begin(sweep_bucket_); it != table_.end(sweep_bucket_); ++it)
        if (now >= it->second.record->end()) expired.push_back(&it->second);
    }
    for (Entry* entry : expired) remove(*entry, Eviction::kTtl, dropped);
    if (end == table_.bucket_count()) return;
  }
}

std::vector<KeptAnswer> AnswerStore::prompt_cache(TimePoint now) const {
  std::vector<std::pair<std::uint64_t, RecordPtr>> records;
  for (std::size_t bucket = 0;;) {
    const std::lock_guard lock{mutex_};
    const std::size_t end = std::min(table_.bucket_count(), bucket + kBucketsAtOnce);
    for (; bucket < end; ++bucket) {
      for (auto it = table_.begin(bucket); it != table_.end(bucket); ++it) {
        const RecordPtr& record = it->second.record;
        if (record->cached() && now < record->fresh_end() + record->kept.grace)
          records.emplace_back(it->second.used, record);
      }
    }
    if (end == table_.bucket_count()) break;
  }
  std::ranges::sort(records, {}, [](const auto& one) { return one.first; });
  std::vector<KeptAnswer> kept;
  kept.reserve(records.size());
  for (const auto& [used, record] : records) kept.push_back(record->kept);
  return kept;
}

StoreStats AnswerStore::stats() const {
  const std::lock_guard lock{mutex_};
  return stats_;
}

}  // namespace mlxs::gateway
