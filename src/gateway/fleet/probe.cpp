#include "gateway/fleet/probe.h"

#include "gateway/loop_signal.h"
#include "http/client.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;

namespace {
constexpr std::size_t kModelsBytesMax = 4U << 20;  // some servers list thousands
}

// Shared with the coroutine, which may run once more after the Probe is gone.
struct Probe::Impl {
  Impl(asio::io_context& of,
       Endpoint at,
       const Tuning& of_all,
       std::function<void(const std::string&)> to)
      : io(of),
        endpoint(std::move(at)),
        tuning(of_all),
        on_result(std::move(to)),
        wake(of.get_executor()) {}

  asio::io_context& io;
  Endpoint endpoint;
  const Tuning& tuning;
  std::function<void(const std::string&)> on_result;
  Signal wake;
  std::unique_ptr<http::ClientConnection> connection;
  bool stopped = false;

  static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
    while (!self->stopped) {
      const std::string failure = co_await self->ask();
      self->connection.reset();
      if (self->stopped) co_return;
      self->on_result(failure);
      if (self->stopped) co_return;
      co_await self->wake.wait(Clock::now() +
                               (failure.empty() ? self->tuning.probe : self->tuning.probe_failed));
    }
  }

  // A connection of its own each time: one kept between probes could have been closed by the server
  // meanwhile, which would say nothing about it.
  asio::awaitable<std::string> ask() {
    const Deadline wait = Deadline::after(tuning.probe_wait);
    connection = std::make_unique<http::ClientConnection>(io.get_executor(), endpoint.address);
    auto connected = co_await connection->connect(wait);
    if (!connected) co_return connected.error().message;
    http::Request request;
    request.target = endpoint.base_path + "/models";
    request.headers.add("accept", "application/json");
    auto head = co_await connection->send(request, wait);
    if (!head) co_return head.error().message;
    if (head->status >= 500)
      co_return "GET " + request.target + " answered " + std::to_string(head->status);
    // Read to its end so that the server does not see a client that leaves.
    auto body = co_await connection->read_all(kModelsBytesMax, wait);
    co_return body ? std::string{} : body.error().message;
  }
};

Probe::Probe(asio::io_context& io,
             Endpoint endpoint,
             const Tuning& tuning,
             std::function<void(const std::string&)> on_result)
    : impl_(std::make_shared<Impl>(io, std::move(endpoint), tuning, std::move(on_result))) {
  asio::co_spawn(io, Impl::run(impl_), asio::detached);
}

Probe::~Probe() {
  impl_->stopped = true;
  if (impl_->connection) impl_->connection->close();
  impl_->wake.notify();
}

}  // namespace mlxs::gateway
