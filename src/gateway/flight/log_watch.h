#pragma once

#include "base/deadline.h"
#include "gateway/flight/frames.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/intrusive/list.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

namespace mlxs::gateway {

class Log;
class LogReader;

/// The readers of one log on one event loop: wakes them, with a handler for kAtOnce of them and one
/// timer for all, and holds the frames that they share. On the loop's thread, but for
/// `wake`. Readers hold the log as well.
class LogWatch : public std::enable_shared_from_this<LogWatch> {
 public:
  /// So many readers are resumed at once; then the loop's other work has its turn, a millisecond
  /// later or less.
  static constexpr std::size_t kAtOnce = 64;

  LogWatch(const Log& log, boost::asio::io_context& loop);
  LogWatch(const LogWatch&) = delete;
  LogWatch& operator=(const LogWatch&) = delete;

  /// By the log's writer, from any thread: there is more to read, or the log `ended`.
  void wake(bool ended);
  [[nodiscard]] bool is_of(boost::asio::io_context& loop) const { return &loop_ == &loop; }
  /// Frames of one shape; see Frames.
  [[nodiscard]] std::shared_ptr<Frames> frames(bool with_usage, bool with_token_ids);

 private:
  friend class LogReader;
  using Link = boost::intrusive::link_mode<boost::intrusive::auto_unlink>;
  struct Waiter : boost::intrusive::list_base_hook<Link> {};
  using Waiters = boost::intrusive::list<Waiter, boost::intrusive::constant_time_size<false>>;

  void resume(Waiters waiters);
  void wake_waiters();
  void limit(TimePoint until);
  void on_timer();

  const Log& log_;
  boost::asio::io_context& loop_;
  std::atomic<bool> pending_{false};  // wake_waiters is on its way to the loop
  std::atomic<bool> ended_{false};
  Waiters for_growth_;
  Waiters for_end_;
  boost::asio::steady_timer timer_;  // for the first of them whose time is up
  TimePoint armed_for_ = TimePoint::max();
  std::array<std::shared_ptr<Frames>, 4> frames_;
};

/// One reader's wait. Loop thread only; outlives its waits, which end before the loop does.
class LogReader : private LogWatch::Waiter {
 public:
  enum class For { kGrowth, kEnd };

  explicit LogReader(std::shared_ptr<LogWatch> watch);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  /// Until the log grew (or ended), `interrupt`, or `until`. Look at the log before calling: what
  /// happened before does not end the wait.
  boost::asio::awaitable<void> wait(For what, TimePoint until);
  /// Ends the wait under way, if any, on the loop's next turn.
  void interrupt();
  /// Goes on with another log's watch; not while waiting.
  void follow(std::shared_ptr<LogWatch> watch);
  [[nodiscard]] LogWatch& watch() { return *watch_; }

 private:
  friend class LogWatch;
  struct Parked;
  template <typename Handler>
  struct ParkedHandler;

  std::shared_ptr<LogWatch> watch_;
  std::unique_ptr<Parked> parked_;  // while it waits
  TimePoint until_;
  // The loop does not run out of work while somebody reads.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
};

}  // namespace mlxs::gateway
