#include "gateway/admin/access_log.h"

#include <boost/asio/post.hpp>
#include <climits>
#include <spdlog/spdlog.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

namespace mlxs::gateway {
namespace {

constexpr Milliseconds kRetry{20};
constexpr Milliseconds kFlush{1'000};

bool writable(int fd, int timeout_ms) {
  pollfd entry{fd, POLLOUT, 0};
  return ::poll(&entry, 1, timeout_ms) == 1 && (entry.revents & POLLOUT) != 0;
}

}  // namespace

AccessLog::AccessLog(boost::asio::io_context& control,
                     std::size_t lines_max,
                     telemetry::Counter& dropped)
    : control_(control), lines_max_(lines_max), dropped_(dropped), retry_(control) {}

AccessLog::~AccessLog() { close_file(); }

void AccessLog::write(std::string line) {
  {
    const std::lock_guard lock{mutex_};
    if (queue_.size() >= lines_max_) {
      dropped_.add();
      return;
    }
    queue_.push_back(std::move(line));
    if (scheduled_) return;
    scheduled_ = true;
  }
  boost::asio::post(control_, [this] { write_some(); });
}

bool AccessLog::open(const std::string& target) {
  close_file();
  enabled_ = target != "off";
  if (target == "off") {
    fd_ = kOff;
  } else if (target == "stderr") {
    fd_ = STDERR_FILENO;
  } else {
    fd_ = ::open(target.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd_ < 0) {
      fd_ = STDERR_FILENO;
      return false;
    }
  }
  return true;
}

void AccessLog::close_file() {
  if (fd_ > STDERR_FILENO) ::close(fd_);
  fd_ = kOff;
}

void AccessLog::take_queue() {
  buffer_.clear();
  written_ = 0;
  std::vector<std::string> lines;
  {
    const std::lock_guard lock{mutex_};
    lines.swap(queue_);
    scheduled_ = false;
  }
  for (const std::string& line : lines) buffer_ += line;
}

void AccessLog::write_some() {
  for (;;) {
    if (written_ == buffer_.size()) take_queue();
    if (buffer_.empty()) return;
    if (fd_ == kOff) {
      written_ = buffer_.size();
      continue;
    }
    // stderr is shared with other processes, so it cannot be made non-blocking. A pipe that polls
    // writable takes PIPE_BUF bytes without blocking, which is what one write is held to; whole
    // lines, so that they don't mix with those of others.
    if (!writable(fd_, 0)) return arm_retry();
    std::string_view rest = std::string_view{buffer_}.substr(written_);
    if (rest.size() > PIPE_BUF) {
      const std::size_t line_end = rest.rfind('\n', PIPE_BUF - 1);
      rest = rest.substr(0, line_end == std::string_view::npos ? PIPE_BUF : line_end + 1);
    }
    const ssize_t count = ::write(fd_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {  // a full disk or a closed pipe: the lines are lost, the server goes on
      dropped_.add(static_cast<std::uint64_t>(std::ranges::count(rest, '\n')));
      written_ += rest.size();
      continue;
    }
    written_ += static_cast<std::size_t>(count);
  }
}

void AccessLog::arm_retry() {
  {
    const std::lock_guard lock{mutex_};
    scheduled_ = true;  // the timer looks at the queue
  }
  retry_.expires_after(kRetry);
  retry_.async_wait([this](boost::system::error_code error) {
    if (!error) write_some();
  });
}

void AccessLog::flush() {
  retry_.cancel();
  const TimePoint give_up = Clock::now() + kFlush;
  for (;;) {
    write_some();
    const std::lock_guard lock{mutex_};
    if (written_ == buffer_.size() && queue_.empty()) return;
    if (Clock::now() >= give_up) return;
    if (fd_ != kOff) (void)writable(fd_, static_cast<int>(kRetry.count()));
  }
}

}  // namespace mlxs::gateway
