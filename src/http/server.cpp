#include "http/server.h"

#include "base/assert.h"
#include "http/session.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <spdlog/spdlog.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Out of descriptors or memory: the connection stays in the backlog until others have closed.
constexpr Milliseconds kAcceptPause{20};
// Connections over a cap that are told so at a time; more are closed without a word.
constexpr std::size_t kRefusalsMax = 64;

/// -1 with errno as from accept(2).
int accept_from(int listener, sockaddr_storage& name) {
  socklen_t size = sizeof(name);
  auto* address = reinterpret_cast<sockaddr*>(&name);
#ifdef __linux__
  return ::accept4(listener, address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
  const int fd = ::accept(listener, address, &size);
  if (fd < 0) return fd;
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  const int on = 1;  // Linux has a flag on each send instead, which Asio sets.
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
  return fd;
#endif
}

}  // namespace

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  Impl(asio::io_context& loop, int borrowed)
      : executor(loop.get_executor()), listener(loop), pause(loop) {
    const int fd = ::fcntl(borrowed, F_DUPFD_CLOEXEC, 0);
    MLXS_ASSERT(fd >= 0);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    listener.assign(fd);
  }

  static asio::awaitable<void> accept_all(std::shared_ptr<Impl> self);
  void take(int fd, const sockaddr_storage& name);
  void stop_accepting() {
    error_code ignored;
    listener.close(ignored);
    pause.cancel();
  }

  asio::any_io_executor executor;
  asio::posix::stream_descriptor listener;
  asio::steady_timer pause;
  std::shared_ptr<ServerState> state = std::make_shared<ServerState>();
};

// One connection a turn: loops that share the listener then share a burst, too.
asio::awaitable<void> Server::Impl::accept_all(std::shared_ptr<Impl> self) {
  bool starved = false;
  while (self->listener.is_open()) {
    const auto [error] =
        co_await self->listener.async_wait(asio::posix::stream_descriptor::wait_read, kAwait);
    if (error || !self->listener.is_open()) co_return;
    sockaddr_storage name{};
    const int fd = accept_from(self->listener.native_handle(), name);
    if (fd >= 0) {
      self->take(fd, name);
      starved = false;
      continue;
    }
    // Another loop was faster, or the client has left already.
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ECONNABORTED || errno == EINTR) {
      continue;
    }
    if (!std::exchange(starved, true)) {
      spdlog::warn("[http] accept: {}", std::generic_category().message(errno));
    }
    self->pause.expires_after(kAcceptPause);
    const auto [ended] = co_await self->pause.async_wait(kAwait);
    if (ended) co_return;
  }
}

void Server::Impl::take(int fd, const sockaddr_storage& name) {
  state->connections_accepted.fetch_add(1, std::memory_order_relaxed);
  Stream::Socket socket{executor};
  error_code error;
  socket.assign(asio::generic::stream_protocol{name.ss_family, 0}, fd, error);
  if (error) {
    ::close(fd);
    return;
  }
  const auto send_buffer = static_cast<int>(state->limits.send_buffer_bytes);
  socket.set_option(asio::socket_base::send_buffer_size{send_buffer}, error);
  if (name.ss_family != AF_UNIX) socket.set_option(asio::ip::tcp::no_delay{true}, error);
  if (state->refusals >= kRefusalsMax) {
    state->connections_refused.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  auto session = std::make_shared<Session>(state, std::move(socket), peer_of(name));
  asio::co_spawn(executor, Session::run(std::move(session)), asio::detached);
}

Server::Server(asio::io_context& loop,
               int listener,
               Limits limits,
               Handler handler,
               ErrorRenderer render_error)
    : impl_(std::make_shared<Impl>(loop, listener)) {
  impl_->state->limits = limits;
  impl_->state->handler = std::move(handler);
  impl_->state->render_error = std::move(render_error);
}

Server::~Server() { stop(); }

void Server::start() { asio::co_spawn(impl_->executor, Impl::accept_all(impl_), asio::detached); }

void Server::drain() {
  impl_->state->draining = true;
  impl_->stop_accepting();
  for (Session* session : impl_->state->sessions) session->drain();
}

void Server::stop() {
  impl_->state->draining = true;
  impl_->stop_accepting();
  for (Session* session : impl_->state->sessions) session->stop();
}

std::size_t Server::active() const { return impl_->state->active; }

void Server::set_limits(const Limits& limits) { impl_->state->limits = limits; }

ServerStats Server::stats() const {
  const ServerState& state = *impl_->state;
  return {state.connections_accepted.load(std::memory_order_relaxed),
          state.connections_open.load(std::memory_order_relaxed),
          state.connections_refused.load(std::memory_order_relaxed),
          state.requests.load(std::memory_order_relaxed),
          state.requests_rejected.load(std::memory_order_relaxed)};
}

}  // namespace mlxs::http
