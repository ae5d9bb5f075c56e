#include "gateway/fleet/state_stream.h"

#include "gateway/loop_signal.h"
#include "http/client.h"
#include "http/sse.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/json/parse.hpp>

#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {
constexpr std::size_t kStateBytesMax = 64 * 1024;
}

// Shared with the coroutine, which may run once more after the StateStream is gone.
struct StateStream::Impl {
  Impl(asio::io_context& of, http::Address at, const Tuning& of_all, Callbacks to)
      : io(of),
        address(std::move(at)),
        tuning(of_all),
        callbacks(std::move(to)),
        wake(of.get_executor()) {}

  asio::io_context& io;
  http::Address address;
  const Tuning& tuning;
  Callbacks callbacks;
  Signal wake;
  std::unique_ptr<http::ClientConnection> connection;
  bool stopped = false;
  bool opened = false;

  static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
    while (!self->stopped) {
      const Result<void> end = co_await self->watch();
      self->connection.reset();
      if (self->stopped) co_return;
      self->callbacks.on_lost(std::exchange(self->opened, false), end.error().message);
      if (self->stopped) co_return;
      co_await self->wake.wait(Clock::now() + self->tuning.state_retry);
    }
  }

  // One connection's life; always ends with the reason.
  asio::awaitable<Result<void>> watch() {
    connection = std::make_unique<http::ClientConnection>(io.get_executor(), address);
    const Deadline head_wait = Deadline::after(tuning.state_head);
    auto connected = co_await connection->connect(head_wait);
    if (!connected) co_return connected.error();
    http::Request request;
    request.target = "/internal/state";
    request.headers.add("accept", "text/event-stream");
    auto head = co_await connection->send(request, head_wait);
    if (!head) co_return head.error();
    if (head->status != 200)
      co_return fail(ErrorCode::kWorkerProtocol,
                     "the state stream answered " + std::to_string(head->status));
    opened = true;
    http::SseReader reader{kStateBytesMax};
    http::SseReader::Event event;
    for (;;) {
      // A silent worker is judged by the fleet's stall check; this bound only frees the socket of
      // one that vanished with its host.
      auto bytes = co_await connection->read_some(Deadline::after(tuning.stall * 3));
      if (!bytes) co_return bytes.error();
      if (bytes->empty()) co_return fail(ErrorCode::kWorkerLost, "the state stream ended");
      reader.feed(*bytes);
      for (;;) {
        auto more = reader.next(event);
        if (!more) co_return more.error();
        if (!*more) break;
        boost::system::error_code bad;
        const json::value state = json::parse(event.data, bad);
        if (bad || !state.is_object())
          co_return fail(ErrorCode::kWorkerProtocol, "the state stream sent no JSON object");
        if (stopped) co_return fail(ErrorCode::kCancelled, "stopped");
        callbacks.on_state(state.get_object());
      }
    }
  }
};

StateStream::StateStream(asio::io_context& io,
                         http::Address address,
                         const Tuning& tuning,
                         Callbacks callbacks)
    : impl_(std::make_shared<Impl>(io, std::move(address), tuning, std::move(callbacks))) {
  asio::co_spawn(io, Impl::run(impl_), asio::detached);
}

StateStream::~StateStream() {
  impl_->stopped = true;
  if (impl_->connection) impl_->connection->close();
  impl_->wake.notify();
}

void StateStream::reopen() {
  if (impl_->connection) impl_->connection->close();
  impl_->wake.notify();
}

}  // namespace mlxs::gateway
