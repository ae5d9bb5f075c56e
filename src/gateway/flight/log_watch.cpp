#include "gateway/flight/log_watch.h"

#include "base/assert.h"

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <utility>

namespace mlxs::gateway {
namespace asio = boost::asio;

// What a waiting coroutine goes on with. Asio 1.24 has no type for it.
struct LogReader::Parked {
  Parked() = default;
  Parked(const Parked&) = delete;
  Parked& operator=(const Parked&) = delete;
  virtual ~Parked() = default;
  virtual void go_on() = 0;
};

template <typename Handler>
struct LogReader::ParkedHandler final : Parked {
  explicit ParkedHandler(Handler&& of) : handler(std::move(of)) {}
  void go_on() override { std::move(handler)(); }
  Handler handler;
};

LogWatch::LogWatch(const Log& log, asio::io_context& loop) : log_(log), loop_(loop), timer_(loop) {}

void LogWatch::wake(bool ended) {
  if (ended) ended_.store(true, std::memory_order_release);
  // Whoever appends while this is on its way is seen by it: the exchange here and the one below
  // are ordered, and readers look at the log after it.
  if (pending_.exchange(true, std::memory_order_acq_rel)) return;
  asio::post(loop_, [self = shared_from_this()] {
    self->pending_.exchange(false, std::memory_order_acq_rel);
    self->wake_waiters();
  });
}

void LogWatch::wake_waiters() {
  Waiters waiters;
  waiters.swap(for_growth_);
  if (ended_.load(std::memory_order_acquire)) waiters.splice(waiters.end(), for_end_);
  resume(std::move(waiters));
}

// Directly, one after the other: a handler and a timer for each would cost as much as their writes.
// One that is resumed may wait again, and unlinks itself when it goes.
void LogWatch::resume(Waiters waiters) {
  const auto self = shared_from_this();  // the last reader to go takes its hold along
  for (std::size_t resumed = 0; !waiters.empty() && resumed < kAtOnce; ++resumed) {
    auto& reader = static_cast<LogReader&>(waiters.front());
    waiters.pop_front();
    std::exchange(reader.parked_, nullptr)->go_on();
  }
  if (waiters.empty()) return;
  asio::post(loop_, [self, rest = std::move(waiters)]() mutable { self->resume(std::move(rest)); });
}

// The timer is moved only when a time comes before the one it stands at; else it fires early, finds
// the later ones and goes on. A stream so touches it once in many frames.
void LogWatch::limit(TimePoint until) {
  if (until >= armed_for_) return;
  armed_for_ = until;
  timer_.expires_at(until);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    if (error) return;
    if (const auto self = weak.lock()) self->on_timer();
  });
}

void LogWatch::on_timer() {
  armed_for_ = TimePoint::max();
  const TimePoint now = Clock::now();
  TimePoint next = TimePoint::max();
  Waiters due;
  for (Waiters* list : {&for_growth_, &for_end_}) {
    for (auto at = list->begin(); at != list->end();) {
      auto& reader = static_cast<LogReader&>(*at++);
      if (reader.until_ > now) {
        next = std::min(next, reader.until_);
        continue;
      }
      reader.unlink();
      due.push_back(reader);
    }
  }
  limit(next);
  resume(std::move(due));
}

std::shared_ptr<Frames> LogWatch::frames(bool with_usage, bool with_token_ids) {
  auto& slot = frames_[(with_usage ? 1U : 0U) + (with_token_ids ? 2U : 0U)];
  if (!slot) slot = std::make_shared<Frames>(log_, with_usage, with_token_ids);
  return slot;
}

LogReader::LogReader(std::shared_ptr<LogWatch> watch)
    : watch_(std::move(watch)), work_(watch_->loop_.get_executor()) {}

LogReader::~LogReader() = default;

void LogReader::follow(std::shared_ptr<LogWatch> watch) {
  MLXS_ASSERT(!parked_);
  watch_ = std::move(watch);
}

asio::awaitable<void> LogReader::wait(For what, TimePoint until) {
  MLXS_ASSERT(!parked_);
  return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
      [this, what, until]<typename Handler>(Handler&& handler) {
        parked_ = std::make_unique<ParkedHandler<Handler>>(std::move(handler));
        until_ = until;
        (what == For::kEnd ? watch_->for_end_ : watch_->for_growth_).push_back(*this);
        watch_->limit(until);
      },
      asio::use_awaitable);
}

void LogReader::interrupt() {
  if (!is_linked()) return;
  unlink();
  // Not from here: the caller may be what the coroutine is about to destroy.
  asio::post(watch_->loop_,
             [parked = std::shared_ptr<Parked>{std::move(parked_)}] { parked->go_on(); });
}

}  // namespace mlxs::gateway
