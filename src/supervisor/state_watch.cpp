#include "supervisor/state_watch.h"

#include "base/deadline.h"
#include "http/client.h"
#include "http/sse.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>

#include <cstddef>
#include <utility>

namespace mlxs::supervisor {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::size_t kEventBytesMax = 64UL * 1024;
constexpr Milliseconds kAnswer{10'000};  // A worker accepts as soon as it has started.
constexpr Milliseconds kSilence{5'000};  // It sends an event every second.
constexpr Milliseconds kRetry{200};

int integer(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_int64() ? static_cast<int>(value->as_int64()) : 0;
}

double share(const json::object& pull) {
  const json::value* const done = pull.if_contains("bytes");
  const json::value* const total = pull.if_contains("bytes_total");
  if (done == nullptr || total == nullptr || !done->is_number() || !total->is_number()) return 0;
  const double of = total->to_number<double>();
  return of > 0 ? done->to_number<double>() / of : 0;
}

}  // namespace

std::optional<WorkerState> parse_worker_state(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  const json::object& object = value.as_object();
  const json::value* const ready = object.if_contains("ready");
  if (ready == nullptr || !ready->is_bool()) return std::nullopt;
  WorkerState state{.ready = ready->as_bool()};
  if (const json::value* const progress = object.if_contains("load_progress");
      progress != nullptr && progress->is_number())
    state.load_progress = progress->to_number<double>();
  if (const json::value* const pull = object.if_contains("pull");
      pull != nullptr && pull->is_object()) {
    state.pulling = true;
    state.load_progress = share(pull->get_object());
  }
  state.unfinished = integer(object, "running") + integer(object, "waiting");
  return state;
}

struct StateWatch::Impl {
  Impl(asio::io_context& io, http::Address where, OnState callback)
      : loop(io), address(std::move(where)), on_state(std::move(callback)), timer(io) {}

  asio::io_context& loop;
  http::Address address;
  OnState on_state;  ///< Empty once the watch has ended.
  std::unique_ptr<http::ClientConnection> connection;
  asio::steady_timer timer;

  static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
    while (self->on_state) {
      self->connection =
          std::make_unique<http::ClientConnection>(self->loop.get_executor(), self->address);
      co_await stream(self);
      if (!self->on_state) co_return;
      self->timer.expires_after(kRetry);
      co_await self->timer.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }

  /// Until the stream breaks or the watch ends.
  static asio::awaitable<void> stream(std::shared_ptr<Impl> self) {
    http::ClientConnection& connection = *self->connection;
    const auto connected = co_await connection.connect(Deadline::after(kAnswer));
    if (!connected) co_return;
    http::Request request;
    request.target = "/internal/state";
    const auto head = co_await connection.send(request, Deadline::after(kAnswer));
    if (!head || head->status != 200) co_return;
    http::SseReader reader{kEventBytesMax};
    http::SseReader::Event event;
    while (self->on_state) {
      const auto bytes = co_await connection.read_some(Deadline::after(kSilence));
      if (!bytes || bytes->empty()) co_return;
      reader.feed(*bytes);
      while (self->on_state) {
        const auto got = reader.next(event);
        if (!got) co_return;
        if (!*got) break;
        // A copy: the callback may end this watch, and with it itself.
        const OnState report = self->on_state;
        if (const auto state = parse_worker_state(event.data)) report(*state);
      }
    }
  }
};

StateWatch::StateWatch(asio::io_context& loop, http::Address address, OnState on_state)
    : impl_(std::make_shared<Impl>(loop, std::move(address), std::move(on_state))) {
  asio::co_spawn(loop, Impl::run(impl_), asio::detached);
}

StateWatch::~StateWatch() {
  impl_->on_state = nullptr;
  if (impl_->connection) impl_->connection->close();
  impl_->timer.cancel();
}

}  // namespace mlxs::supervisor
