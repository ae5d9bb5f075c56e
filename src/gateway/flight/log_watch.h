#pragma once

#include "base/deadline.h"
#include "gateway/flight/frames.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <vector>

namespace mlxs::gateway {

class Log;

/// The readers of one log on one event loop: wakes them, once for the loop however many they are,
/// and holds the frames that they share. On the loop's thread, but for `wake`. Readers hold the log
/// as well.
class LogWatch : public std::enable_shared_from_this<LogWatch> {
 public:
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
  void notify();

  const Log& log_;
  boost::asio::io_context& loop_;
  std::atomic<bool> pending_{false};  // a notify is on its way to the loop
  std::atomic<bool> ended_{false};
  std::vector<class LogReader*> for_growth_;
  std::vector<class LogReader*> for_end_;
  std::array<std::shared_ptr<Frames>, 4> frames_;
};

/// One reader's wait. Loop thread only; outlives its waits.
class LogReader {
 public:
  enum class For { kGrowth, kEnd };

  explicit LogReader(std::shared_ptr<LogWatch> watch);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  /// Until the log grew (or ended), `interrupt`, or `until`. Look at the log before calling: what
  /// happened before does not end the wait.
  boost::asio::awaitable<void> wait(For what, TimePoint until);
  /// Ends the wait under way, if any.
  void interrupt() { timer_.cancel(); }
  /// Goes on with another log's watch; not while waiting.
  void follow(std::shared_ptr<LogWatch> watch);
  [[nodiscard]] LogWatch& watch() { return *watch_; }

 private:
  friend class LogWatch;
  void leave();

  std::shared_ptr<LogWatch> watch_;
  boost::asio::steady_timer timer_;
  std::vector<LogReader*>* list_ = nullptr;  // that this stands in
};

}  // namespace mlxs::gateway
