#pragma once

#include "base/deadline.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include <vector>

namespace mlxs::gateway {

/// Wakes coroutines of one event loop: "something changed, look again". Carries no state, so a
/// waiter checks its condition before it waits and after it woke; between the two nothing else of
/// the loop runs. Loop thread only; outlives its waiters.
class Signal {
 public:
  explicit Signal(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

  /// Returns after the next `notify`, or at `until`.
  boost::asio::awaitable<void> wait(TimePoint until);
  /// Wakes everyone who waits now.
  void notify();

 private:
  boost::asio::any_io_executor executor_;
  std::vector<boost::asio::steady_timer*> waiters_;  // in the frames of `wait`
};

}  // namespace mlxs::gateway
