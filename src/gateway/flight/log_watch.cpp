#include "gateway/flight/log_watch.h"

#include "base/assert.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace mlxs::gateway {
namespace asio = boost::asio;

LogWatch::LogWatch(const Log& log, asio::io_context& loop) : log_(log), loop_(loop) {}

void LogWatch::wake(bool ended) {
  if (ended) ended_.store(true, std::memory_order_release);
  if (loop_.get_executor().running_in_this_thread()) return notify();
  // Whoever appends while a notify is on its way is seen by it: the exchange below and the one
  // here are ordered, and readers look at the log after it.
  if (pending_.exchange(true, std::memory_order_acq_rel)) return;
  asio::post(loop_, [self = shared_from_this()] {
    self->pending_.exchange(false, std::memory_order_acq_rel);
    self->notify();
  });
}

void LogWatch::notify() {
  const auto empty = [](std::vector<LogReader*>& list) {
    for (LogReader* reader : list) {
      reader->list_ = nullptr;
      reader->timer_.cancel();
    }
    list.clear();
  };
  empty(for_growth_);
  if (ended_.load(std::memory_order_acquire)) empty(for_end_);
}

std::shared_ptr<Frames> LogWatch::frames(bool with_usage, bool with_token_ids) {
  auto& slot = frames_[(with_usage ? 1U : 0U) + (with_token_ids ? 2U : 0U)];
  if (!slot) slot = std::make_shared<Frames>(log_, with_usage, with_token_ids);
  return slot;
}

LogReader::LogReader(std::shared_ptr<LogWatch> watch)
    : watch_(std::move(watch)), timer_(watch_->loop_) {}

LogReader::~LogReader() { leave(); }

void LogReader::follow(std::shared_ptr<LogWatch> watch) {
  MLXS_ASSERT(list_ == nullptr);
  watch_ = std::move(watch);
}

asio::awaitable<void> LogReader::wait(For what, TimePoint until) {
  list_ = what == For::kEnd ? &watch_->for_end_ : &watch_->for_growth_;
  list_->push_back(this);
  timer_.expires_at(until);
  co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
  leave();
}

void LogReader::leave() {
  if (list_ != nullptr) std::erase(*list_, this);
  list_ = nullptr;
}

}  // namespace mlxs::gateway
