#pragma once

#include "base/result.h"
#include "gateway/cache/answer_store.h"
#include "gateway/cache/epoch_file.h"
#include "gateway/cache/epochs.h"
#include "gateway/metrics.h"
#include "gateway/settings.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>

#include <filesystem>
#include <optional>

namespace mlxs::gateway {

/// What the answer store needs besides its users: limits from the configuration, flushes that
/// outlive the process, metrics. Control thread; disks are waited for on a thread of its own.
class CacheKeeper {
 public:
  /// All of them outlive it.
  CacheKeeper(Epochs& epochs, AnswerStore& store, Metrics& metrics);
  ~CacheKeeper();
  CacheKeeper(const CacheKeeper&) = delete;
  CacheKeeper& operator=(const CacheKeeper&) = delete;

  /// Before anything is served: takes over the flushes in the state folder. What is wrong with it
  /// is logged; the gateway then serves without.
  void begin(const Settings& settings);
  void set_settings(const Settings& settings);
  /// Every now and then.
  void housekeep() { store_.drop_expired(kSweep, Clock::now()); }

  /// Makes everything that was admitted before this call obsolete as far as `scope` covers it, then
  /// persists that. On kIo the flush is in force all the same, but would be forgotten by a restart.
  [[nodiscard]] boost::asio::awaitable<Result<void>> flush(FlushScope scope);

 private:
  static constexpr std::size_t kSweep = 100'000;  // entries, about a millisecond

  boost::asio::awaitable<Result<void>> sweep_and_persist();
  [[nodiscard]] Result<void> persist();
  void collect();

  Epochs& epochs_;
  AnswerStore& store_;
  Metrics& metrics_;
  std::optional<std::filesystem::path> folder_;
  boost::asio::thread_pool files_{1};
};

}  // namespace mlxs::gateway
