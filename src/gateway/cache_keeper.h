#pragma once

#include "base/file_lock.h"
#include "base/result.h"
#include "gateway/cache/answer_store.h"
#include "gateway/cache/epoch_file.h"
#include "gateway/cache/epochs.h"
#include "gateway/cache/snapshot.h"
#include "gateway/metrics.h"
#include "gateway/settings.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace mlxs::gateway {

/// What the answer store needs besides its users: limits from the configuration, flushes that
/// outlive the process, the snapshot, metrics. Control thread; disks are waited for on a thread of
/// its own.
class CacheKeeper {
 public:
  /// All of them outlive it. `codec`: of the answers in `store`.
  CacheKeeper(Epochs& epochs, AnswerStore& store, const AnswerCodec& codec, Metrics& metrics);
  ~CacheKeeper();
  CacheKeeper(const CacheKeeper&) = delete;
  CacheKeeper& operator=(const CacheKeeper&) = delete;

  /// Before anything is served: takes over the flushes in the state folder and begins to load the
  /// snapshot, where one is wanted. What is wrong with them, or that another server has the
  /// snapshot, is logged; the gateway then serves without.
  void begin(const Settings& settings);
  void set_settings(const Settings& settings);
  /// Every now and then: removes what has expired, writes the snapshot when it is due.
  [[nodiscard]] boost::asio::awaitable<void> housekeep();
  /// Writes the snapshot, if one is wanted and something has changed. At the end, when nothing is
  /// served any more.
  [[nodiscard]] boost::asio::awaitable<void> save_snapshot();

  /// Makes everything that was admitted before this call obsolete as far as `scope` covers it, then
  /// persists that. On kIo the flush is in force all the same, but would be forgotten by a restart.
  [[nodiscard]] boost::asio::awaitable<Result<void>> flush(FlushScope scope);

 private:
  static constexpr std::size_t kSweep = 100'000;  // entries, about a millisecond

  boost::asio::awaitable<Result<void>> sweep_and_persist(FlushScope flushed);
  [[nodiscard]] Result<void> persist(const FlushScope& flushed);
  /// Whether the snapshot is this process's to read and write, from now to its end: of several
  /// servers with one state folder the first one's.
  [[nodiscard]] bool owns_snapshot();
  boost::asio::awaitable<void> write_snapshot_file();
  void load_snapshot_file(Clock::duration ttl_max);
  [[nodiscard]] std::filesystem::path snapshot_path() const { return *folder_ / "prompt_cache"; }
  void collect();

  Epochs& epochs_;
  AnswerStore& store_;
  const AnswerCodec codec_;
  Metrics& metrics_;
  std::optional<std::filesystem::path> folder_;  // since `begin`
  config::Config::PromptCache wanted_;
  TimePoint snapshot_due_ = TimePoint::max();
  // The file thread's.
  std::uint64_t changes_saved_ = 0;
  std::optional<FileLock> snapshot_lock_;
  bool told_of_another_ = false;

  std::atomic<bool> ending_{false};
  boost::asio::thread_pool files_{1};
};

}  // namespace mlxs::gateway
