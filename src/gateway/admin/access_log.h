#pragma once

#include "gateway/loop_signal.h"
#include "telemetry/metrics.h"

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace mlxs::gateway {

/// Writes one line a request without ever making a request wait: data loops put lines into a
/// bounded queue, the control thread writes them. When the sink cannot keep up, lines beyond the
/// queue's bound are dropped and counted. Outlives its io_context's run.
class AccessLog {
 public:
  AccessLog(boost::asio::io_context& control, std::size_t lines_max, telemetry::Counter& dropped);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  /// Whether lines are wanted at all. Any thread.
  [[nodiscard]] bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  /// Queues `line`, which ends with a line break. Any thread.
  void write(std::string line);

  /// Opens `target` ("stderr", "off" or a path, appended to and created if missing), also again, so
  /// that a rotated file is let go. False if the file cannot be opened; the sink is then stderr.
  /// Control thread.
  bool open(const std::string& target);
  /// Writes what is queued, waiting up to a second for a sink that is full. Control thread, at
  /// exit.
  void flush();

 private:
  static constexpr int kOff = -1;
  void take_queue();
  void write_some();
  void arm_retry();
  void close_file();

  boost::asio::io_context& control_;
  const std::size_t lines_max_;
  telemetry::Counter& dropped_;
  std::atomic<bool> enabled_{false};

  std::mutex mutex_;
  std::vector<std::string> queue_;
  bool scheduled_ = false;  // the control thread knows that the queue is not empty

  // Control thread only.
  int fd_ = kOff;
  std::string buffer_;  // taken from the queue, not yet written
  std::size_t written_ = 0;
  boost::asio::steady_timer retry_;
};

}  // namespace mlxs::gateway
