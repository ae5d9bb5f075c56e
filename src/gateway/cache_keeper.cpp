#include "gateway/cache_keeper.h"

#include "gateway/cache/durable_file.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

const std::vector<double> kLookup{
    .0000005, .000001, .0000025, .000005, .00001, .000025, .00005, .0001, .001, .01};

AnswerStore::Limits limits_of(const Settings& settings) {
  return {.entries_max = static_cast<std::size_t>(settings.config.prompt_cache.entries),
          .bytes_max = settings.config.prompt_cache.bytes};
}

}  // namespace

CacheKeeper::CacheKeeper(Epochs& epochs,
                         AnswerStore& store,
                         const AnswerCodec& codec,
                         Metrics& metrics)
    : epochs_(epochs), store_(store), codec_(codec), metrics_(metrics) {
  store_.measure_lookups(metrics.registry.histogram(
      "mlx_cache_lookup_seconds", "Looking for a kept answer.", kLookup));
  collect();
  metrics.registry.on_collect([this] { collect(); });
}

CacheKeeper::~CacheKeeper() {
  ending_ = true;
  files_.join();
}

void CacheKeeper::begin(const Settings& settings) {
  set_settings(settings);
  auto folder = config::state_folder(settings.config);
  if (!folder) {
    spdlog::warn("{}; flushes will not outlive a restart", folder.error().message);
    return;
  }
  folder_ = std::move(*folder);
  const auto flushes = EpochFile{*folder_, ending_}.load();
  if (flushes) {
    epochs_.merge(*flushes);
  } else {
    spdlog::error("{} ({}); earlier flushes are forgotten, and the snapshot with them",
                  flushes.error().message,
                  folder_->string());
  }
  if (wanted_.snapshot) asio::post(files_, [this, ttl = wanted_.ttl] { load_snapshot_file(ttl); });
}

void CacheKeeper::set_settings(const Settings& settings) {
  wanted_ = settings.config.prompt_cache;
  snapshot_due_ = std::min(snapshot_due_, Clock::now() + wanted_.snapshot_every);
  store_.set_limits(limits_of(settings), Clock::now());
}

asio::awaitable<Result<void>> CacheKeeper::flush(FlushScope scope) {
  epochs_.flush(scope);
  // Out of the way of health and metrics: both take their time when there is much.
  co_return co_await asio::co_spawn(
      files_, sweep_and_persist(std::move(scope)), asio::use_awaitable);
}

asio::awaitable<Result<void>> CacheKeeper::sweep_and_persist(FlushScope flushed) {
  store_.drop_flushed();
  co_return persist(flushed);
}

Result<void> CacheKeeper::persist(const FlushScope& flushed) {
  if (!folder_)
    return fail(ErrorCode::kIo,
                "[cache] flushed, but there is nowhere to remember it over a restart: set "
                "state_dir, restart and flush again",
                "state_dir");
  auto saved = EpochFile{*folder_, ending_}.save(epochs_, flushed);
  if (saved) return saved;
  return fail(ErrorCode::kIo,
              fmt::format("[cache] flushed, but a restart would forget it ({}): make state_dir "
                          "writable, or set another one and restart, then flush again",
                          saved.error().message),
              "state_dir");
}

asio::awaitable<void> CacheKeeper::housekeep() {
  store_.drop_expired(kSweep, Clock::now());
  if (Clock::now() < snapshot_due_) co_return;
  snapshot_due_ = Clock::now() + wanted_.snapshot_every;
  co_await save_snapshot();
}

asio::awaitable<void> CacheKeeper::save_snapshot() {
  if (!wanted_.snapshot || !folder_) co_return;
  co_await asio::co_spawn(files_, write_snapshot_file(), asio::use_awaitable);
}

asio::awaitable<void> CacheKeeper::write_snapshot_file() {
  const StoreStats stats = store_.stats();
  std::uint64_t changes = stats.inserted;
  for (const std::uint64_t gone : stats.evictions) changes += gone;
  if (changes == changes_saved_ || !owns_snapshot()) co_return;
  // First the flushes, without whose file the snapshot would be refused.
  auto saved = EpochFile{*folder_, ending_}.save(epochs_);
  if (saved) {
    const auto written = write_snapshot(snapshot_path(), store_, epochs_, codec_, Moment::now());
    if (written) {
      changes_saved_ = changes;
      spdlog::info("[snapshot] {} answers in {}", written->entries, snapshot_path().string());
      co_return;
    }
    saved = written.error();
  }
  spdlog::error("{}; the prompt cache will not outlive a restart", saved.error().message);
}

bool CacheKeeper::owns_snapshot() {
  if (snapshot_lock_) return true;
  // Where there is no folder or no locking, reading or writing it says what is wrong.
  if (!make_folder(*folder_)) return true;
  auto lock = FileLock::try_take(*folder_ / "prompt_cache.lock", 0600);
  if (!lock) return true;
  if (*lock) {
    snapshot_lock_.emplace(std::move(**lock));
  } else if (!std::exchange(told_of_another_, true)) {
    spdlog::warn(
        "[snapshot] {} belongs to another server with the same state_dir; this one's prompt cache "
        "will not outlive a restart",
        snapshot_path().string());
  }
  return snapshot_lock_.has_value();
}

void CacheKeeper::load_snapshot_file(Clock::duration ttl_max) {
  if (!owns_snapshot()) return;
  const auto loaded =
      load_snapshot(snapshot_path(), store_, epochs_, codec_, ttl_max, Moment::now());
  if (loaded) {
    spdlog::info("[snapshot] {} answers from {}, {} expired, flushed or without room",
                 loaded->entries,
                 snapshot_path().string(),
                 loaded->left_out);
  } else if (loaded.error().code != ErrorCode::kNotFound) {
    spdlog::error(
        "{}: {}; the prompt cache starts empty", loaded.error().message, snapshot_path().string());
  }
}

void CacheKeeper::collect() {
  const StoreStats stats = store_.stats();
  for (const Layer layer : {Layer::kDedup, Layer::kPromptCache}) {
    const auto& counted = stats.layers[static_cast<std::size_t>(layer)];
    const telemetry::Labels labels{{"layer", std::string{to_string(layer)}}};
    metrics_.registry.gauge("mlx_cache_entries", "Kept answers, by layer.", labels)
        .set(static_cast<double>(counted.entries));
    metrics_.registry.gauge("mlx_cache_bytes", "Size of kept answers, by layer.", labels)
        .set(static_cast<double>(counted.bytes));
  }
  for (const Eviction reason : kEvictions) {
    telemetry::Counter& counter =
        metrics_.registry.counter("mlx_cache_evictions_total",
                                  "Kept answers that went, by reason.",
                                  {{"reason", std::string{to_string(reason)}}});
    // Only collections add, one at a time, so the counter never overtakes the store.
    const std::uint64_t now = stats.evictions[static_cast<std::size_t>(reason)];
    counter.add(now - counter.value());
  }
}

}  // namespace mlxs::gateway
