#include "worker/change_signal.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace mlxs::worker {

namespace asio = boost::asio;

void ChangeSignal::notify() {
  ++count_;
  for (asio::steady_timer* timer : waiting_) timer->cancel();
}

asio::awaitable<void> ChangeSignal::wait(std::uint64_t seen, TimePoint until) {
  if (count_ != seen) co_return;
  asio::steady_timer timer{executor_, until};
  // Leaves the set also when the frame is destroyed while it waits.
  struct Entry {
    std::unordered_set<asio::steady_timer*>& set;
    asio::steady_timer* timer;
    ~Entry() { set.erase(timer); }
  };
  waiting_.insert(&timer);
  const Entry entry{waiting_, &timer};
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

asio::awaitable<void> ChangeSignal::pause(TimePoint until) {
  asio::steady_timer timer{executor_, until};
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

}  // namespace mlxs::worker
