#include "gateway/loop_signal.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>

namespace mlxs::gateway {
namespace asio = boost::asio;

asio::awaitable<void> Signal::wait(TimePoint until) {
  asio::steady_timer timer{executor_, until};
  // Leaves the list also when the frame is destroyed while it waits.
  struct Entry {
    std::vector<asio::steady_timer*>& list;
    asio::steady_timer* timer;
    ~Entry() { std::erase(list, timer); }
  } entry{waiters_, &timer};
  waiters_.push_back(&timer);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

void Signal::notify() {
  for (asio::steady_timer* timer : waiters_) timer->cancel();
}

}  // namespace mlxs::gateway
