#pragma once

#include "base/deadline.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstdint>
#include <unordered_set>

namespace mlxs::worker {

/// Tells coroutines that something has changed. Changes are counted, so one that happens while
/// nobody waits is not lost. Loop thread.
class ChangeSignal {
 public:
  explicit ChangeSignal(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  void notify();
  [[nodiscard]] std::uint64_t count() const { return count_; }
  /// Returns when `count()` is beyond `seen`, or at `until`.
  boost::asio::awaitable<void> wait(std::uint64_t seen, TimePoint until);
  /// Returns at `until`, however much changes.
  boost::asio::awaitable<void> pause(TimePoint until);

 private:
  boost::asio::any_io_executor executor_;
  std::uint64_t count_ = 0;
  std::unordered_set<boost::asio::steady_timer*> waiting_;
};

}  // namespace mlxs::worker
