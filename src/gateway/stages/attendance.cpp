#include "gateway/stages/attendance.h"

#include "gateway/flight/flight.h"

#include <algorithm>
#include <utility>

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
      since_(source.taken_at) {
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

// The clock pauses while the worker steps: a long prompt on a busy worker is no reason to have it
// computed twice.
TimePoint Attendance::due() {
  if (source_.result != CacheResult::kCoalesced || source_.log->size() > 0) return TimePoint::max();
  auto worker = source_.flight.flight().notes().progress;
  if (worker != worker_) {
    const TimePoint now = Clock::now();
    const auto since = worker_ ? worker_->stood_still(now) - stood_still_ : now - since_;
    worker_ = std::move(worker);
    count_from(now, waited_ + since);
  }
  const auto left = join_timeout_ - waited_;
  return worker_ ? worker_->reaches(stood_still_ + left) : since_ + left;
}

void Attendance::count_from(TimePoint now, Clock::duration waited) {
  waited_ = waited;
  since_ = now;
  stood_still_ = worker_ ? worker_->stood_still(now) : Clock::duration{0};
}

boost::asio::awaitable<void> Attendance::wait(LogReader::For what, TimePoint until) {
  return reader_->wait(what, std::min(until, due()));
}

bool Attendance::moved(TimePoint now) {
  if (!reader_ || now < due()) return false;
  count_from(now, {});
  if (!open_second(context_, scope_, exchange_.request(), source_)) return false;
  reader_->follow(source_.log->watch(context_.io));
  return true;
}

}  // namespace mlxs::gateway
