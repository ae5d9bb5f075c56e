#pragma once

#include "gateway/fleet/progress_clock.h"
#include "gateway/flight/log_watch.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/sharing/answer_source.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <optional>

namespace mlxs::gateway {

/// One client while it is being answered from a log that may still grow: waits with it, notices
/// when it leaves, and moves it to a second flight when the first gives no token (R-COAL-4). On the
/// loop of `context`; all references outlive it.
class Attendance {
 public:
  Attendance(http::Exchange& exchange,
             LoopContext& context,
             const RequestScope& scope,
             AnswerSource& source,
             Milliseconds join_timeout);
  ~Attendance();
  Attendance(const Attendance&) = delete;
  Attendance& operator=(const Attendance&) = delete;

  [[nodiscard]] bool gone() const { return gone_; }
  /// Frames shared with the loop's other streams of that shape; null for a log that had ended.
  [[nodiscard]] std::shared_ptr<Frames> frames(bool with_usage, bool with_token_ids);
  /// Until the log changed as asked for, the client left, `until`, or it is time to ask `moved`.
  boost::asio::awaitable<void> wait(LogReader::For what, TimePoint until);
  /// Whether the source was moved to another flight, whose log is to be read from its start. Only
  /// for a flight that someone else started and that has no event yet.
  [[nodiscard]] bool moved(TimePoint now);

 private:
  [[nodiscard]] TimePoint due();
  void count_from(TimePoint now, Clock::duration waited);

  http::Exchange& exchange_;
  LoopContext& context_;
  const RequestScope& scope_;
  AnswerSource& source_;
  const Milliseconds join_timeout_;
  // Of the wait for another's first token: `waited_` before `since_`, then the standstill of
  // `worker_`, or all time while there is none.
  Clock::duration waited_{0};
  TimePoint since_;
  std::shared_ptr<const ProgressClock> worker_;
  Clock::duration stood_still_{0};   // of worker_, by then
  std::optional<LogReader> reader_;  // while there is something to wait for
  bool gone_ = false;
};

}  // namespace mlxs::gateway
