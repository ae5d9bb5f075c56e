#include "gateway/stages/attendance.h"

#include "gateway/flight/flight.h"

#include <algorithm>

namespace mlxs::gateway {

Attendance::Attendance(http::Exchange& exchange,
                       LoopContext& context,
                       const RequestScope& scope,
                       AnswerSource& source,
                       Milliseconds join_timeout)
    : exchange_(exchange),
      context_(context),
      scope_(scope),
      source_(source),
      join_timeout_(join_timeout),
      asked_at_(source.taken_at) {
  if (source.log->ended()) return;
  reader_.emplace(source.log->watch(context.io));
  exchange_.on_client_gone([this] {
    gone_ = true;
    reader_->interrupt();
  });
}

Attendance::~Attendance() {
  if (reader_) exchange_.on_client_gone({});
}

std::shared_ptr<Frames> Attendance::frames(bool with_usage, bool with_token_ids) {
  return reader_ ? reader_->watch().frames(with_usage, with_token_ids) : nullptr;
}

// Progress of the worker starts the wait anew: a long prompt on a busy worker is no reason to have
// it computed twice.
TimePoint Attendance::due() const {
  if (source_.result != CacheResult::kCoalesced || source_.log->size() > 0) return TimePoint::max();
  TimePoint from = asked_at_;
  if (const auto progress = source_.flight.flight().notes().progress_at)
    from = std::max(from, TimePoint{Clock::duration{progress->load(std::memory_order_relaxed)}});
  return from + join_timeout_;
}

boost::asio::awaitable<void> Attendance::wait(LogReader::For what, TimePoint until) {
  co_await reader_->wait(what, std::min(until, due()));
}

bool Attendance::moved(TimePoint now) {
  if (!reader_ || now < due()) return false;
  asked_at_ = now;
  if (!open_second(context_, scope_, exchange_.request(), source_)) return false;
  reader_->follow(source_.log->watch(context_.io));
  return true;
}

}  // namespace mlxs::gateway
