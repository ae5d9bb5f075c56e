#include "http/client.h"

#include "http/head.h"
#include "http/parser.h"
#include "http/stream.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using End = Stream::End;
using Endpoint = Stream::Socket::endpoint_type;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::string_view kHeadEnd = "\r\n\r\n";
// A unix listener with a full backlog refuses instead of queueing; asked again this often.
constexpr Milliseconds kBacklogPause{5};
// A peer that refuses a body closes while it is still written; its answer is then already there.
constexpr Milliseconds kEarlyAnswer{1'000};

/// Outlives the coroutine that waits: getaddrinfo cannot be interrupted, only left alone.
struct Lookup {
  explicit Lookup(const asio::any_io_executor& executor) : resolver(executor), wake(executor) {}
  tcp::resolver resolver;
  asio::steady_timer wake;
  bool done = false;
  std::string failure;
  std::vector<Endpoint> endpoints;
};

}  // namespace

struct ClientConnection::Impl : std::enable_shared_from_this<Impl> {
  using Self = std::shared_ptr<Impl>;

  Impl(asio::any_io_executor on, Address to) : executor(std::move(on)), address(std::move(to)) {
    stream = std::make_shared<Stream>(Stream::Socket{executor});
  }

  static asio::awaitable<Result<void>> connect(Self self, Deadline deadline);
  static asio::awaitable<Result<void>> connect_unix(Self self, TimePoint deadline);
  static asio::awaitable<Result<void>> connect_tcp(Self self, TimePoint deadline);
  static asio::awaitable<Result<std::vector<Endpoint>>> resolve(Self self, TimePoint deadline);
  static asio::awaitable<Result<ResponseHead>> send(Self self,
                                                    const Request& request,
                                                    TimePoint deadline);
  static asio::awaitable<Result<ResponseHead>> read_head(Self self,
                                                         bool head_only,
                                                         TimePoint until);
  static asio::awaitable<Result<std::string_view>> read_some(Self self, TimePoint deadline);
  static asio::awaitable<Result<std::string>> read_all(Self self,
                                                       std::size_t bytes_max,
                                                       TimePoint deadline);

  [[nodiscard]] Error error_of(End end, std::string_view doing) const;
  [[nodiscard]] Error protocol(std::string_view what) const;
  Result<std::string_view> take_buffered();
  void close() {
    closed = true;
    connected = false;
    stream->close();
    if (lookup) lookup->wake.cancel();
  }

  asio::any_io_executor executor;
  Address address;
  std::shared_ptr<Stream> stream;
  std::shared_ptr<Lookup> lookup;
  bool closed = false;
  bool connected = false;
  bool keep_alive = true;
  bool body_done = true;
  Framing framing = Framing::kNone;
  std::uint64_t length_left = 0;
  std::optional<ResponseParser> parser;
  std::string in;   ///< Received, not yet used.
  std::string out;  ///< Behind the view that `read_some` handed out.
};

Error ClientConnection::Impl::error_of(End end, std::string_view doing) const {
  const std::string to = address.to_string();
  switch (end) {
    case End::kTimeout:
      return fail(ErrorCode::kDeadlineExceeded, fmt::format("[http] {} {}: too late", doing, to));
    case End::kInterrupted:
    case End::kClosed:
      return fail(ErrorCode::kCancelled, fmt::format("[http] {} {}: closed here", doing, to));
    case End::kEof:
      return fail(ErrorCode::kWorkerLost,
                  fmt::format("[http] {} {}: the peer closed the connection", doing, to));
    default:
      return fail(ErrorCode::kWorkerLost,
                  fmt::format("[http] {} {}: {}", doing, to, stream->reason()));
  }
}

Error ClientConnection::Impl::protocol(std::string_view what) const {
  return fail(ErrorCode::kWorkerProtocol, fmt::format("[http] {}: {}", address.to_string(), what));
}

asio::awaitable<Result<void>> ClientConnection::Impl::connect(Self self, Deadline deadline) {
  Result<void> result;
  if (self->closed) co_return self->error_of(End::kClosed, "connecting to");
  if (self->address.kind == Address::Kind::kUnix) {
    result = co_await connect_unix(self, deadline.when());
  } else {
    result = co_await connect_tcp(self, deadline.when());
  }
  self->connected = result.has_value();
  co_return result;
}

asio::awaitable<Result<void>> ClientConnection::Impl::connect_unix(Self self, TimePoint deadline) {
  if (self->address.path.size() >= sizeof(sockaddr_un::sun_path)) {
    co_return fail(ErrorCode::kIo,
                   fmt::format("[http] {}: the path is too long", self->address.to_string()));
  }
  const asio::local::stream_protocol::endpoint to{self->address.path};
  asio::steady_timer pause{self->executor};
  while (true) {
    // Asio takes EAGAIN, which is how Linux says that the backlog is full, for a connection under
    // way; so the call is made here.
    error_code error;
    self->stream->socket().open(asio::generic::stream_protocol{AF_UNIX, 0}, error);
    if (error) break;
    self->stream->socket().native_non_blocking(true, error);
    const int fd = self->stream->socket().native_handle();
    if (::connect(fd, to.data(), static_cast<socklen_t>(to.size())) == 0) {
      self->stream->set_connected();
      co_return Result<void>{};
    }
    if (errno != EAGAIN) {
      co_return fail(ErrorCode::kIo,
                     fmt::format("[http] connecting to {}: {}",
                                 self->address.to_string(),
                                 std::generic_category().message(errno)));
    }
    if (Clock::now() >= deadline) co_return self->error_of(End::kTimeout, "connecting to");
    pause.expires_after(kBacklogPause);
    const auto [stopped] = co_await pause.async_wait(kAwait);
    if (stopped || self->closed) co_return self->error_of(End::kClosed, "connecting to");
    self->stream->socket().close(error);
  }
  co_return fail(ErrorCode::kIo, "[http] out of sockets");
}

asio::awaitable<Result<std::vector<Endpoint>>> ClientConnection::Impl::resolve(Self self,
                                                                               TimePoint deadline) {
  error_code no_number;
  const auto number = asio::ip::make_address(self->address.host, no_number);
  if (!no_number) co_return std::vector<Endpoint>{tcp::endpoint{number, self->address.port}};

  const auto lookup = std::make_shared<Lookup>(self->executor);
  self->lookup = lookup;
  lookup->wake.expires_at(deadline);
  lookup->resolver.async_resolve(
      self->address.host,
      std::to_string(self->address.port),
      tcp::resolver::numeric_service,
      [lookup](const error_code& error, const tcp::resolver::results_type& found) {
        lookup->done = true;
        if (error) lookup->failure = error.message();
        for (const auto& entry : found) lookup->endpoints.emplace_back(entry.endpoint());
        lookup->wake.cancel();
      });
  if (!lookup->done) co_await lookup->wake.async_wait(kAwait);
  self->lookup = nullptr;
  if (self->closed) co_return self->error_of(End::kClosed, "resolving");
  if (!lookup->done && Clock::now() < deadline) {
    co_return self->error_of(End::kInterrupted, "resolving");
  }
  if (!lookup->done) co_return self->error_of(End::kTimeout, "resolving");
  if (lookup->endpoints.empty()) {
    co_return fail(
        ErrorCode::kIo,
        fmt::format("[http] resolving {}: {}", self->address.to_string(), lookup->failure));
  }
  co_return std::move(lookup->endpoints);
}

asio::awaitable<Result<void>> ClientConnection::Impl::connect_tcp(Self self, TimePoint deadline) {
  auto endpoints = co_await resolve(self, deadline);
  if (!endpoints) co_return endpoints.error();
  for (const Endpoint& endpoint : *endpoints) {
    error_code error;
    self->stream->socket().close(error);
    const End end = co_await self->stream->connect(endpoint, deadline);
    if (self->closed) co_return self->error_of(End::kClosed, "connecting to");
    if (end == End::kDone) {
      self->stream->socket().set_option(tcp::no_delay{true}, error);
      co_return Result<void>{};
    }
    if (end != End::kFailed) co_return self->error_of(end, "connecting to");
  }
  co_return fail(
      ErrorCode::kIo,
      fmt::format(
          "[http] connecting to {}: {}", self->address.to_string(), self->stream->reason()));
}

asio::awaitable<Result<ResponseHead>> ClientConnection::Impl::send(Self self,
                                                                   const Request& request,
                                                                   TimePoint deadline) {
  if (self->closed) co_return self->error_of(End::kClosed, "sending to");
  if (!self->body_done) {
    co_return fail(ErrorCode::kIo,
                   fmt::format("[http] sending to {}: the last answer was not read to its end",
                               self->address.to_string()));
  }
  self->body_done = false;
  const bool head_only = request.method == "HEAD";
  const std::string host =
      self->address.kind == Address::Kind::kUnix ? "localhost" : self->address.to_string();
  const std::string head = render_request_head(request, host);
  const Stream::Buffers buffers{asio::buffer(head), asio::buffer(request.body)};
  const End end = co_await self->stream->write(buffers, Milliseconds::max(), deadline);
  if (end == End::kFailed) {
    const Error failure = fail(
        ErrorCode::kIo,
        fmt::format("[http] sending to {}: {}", self->address.to_string(), self->stream->reason()));
    const TimePoint until = std::min(deadline, Deadline::after(kEarlyAnswer).when());
    auto early = co_await read_head(self, head_only, until);
    self->keep_alive = false;
    if (early) co_return early;
    co_return failure;
  }
  if (end != End::kDone) co_return self->error_of(end, "sending to");
  co_return co_await read_head(self, head_only, deadline);
}

asio::awaitable<Result<ResponseHead>> ClientConnection::Impl::read_head(Self self,
                                                                        bool head_only,
                                                                        TimePoint until) {
  std::size_t searched = 0;
  while (true) {
    const std::size_t found = self->in.find(kHeadEnd, searched);
    if (found > kHeadBytesMax && self->in.size() > kHeadBytesMax) {
      co_return self->protocol(
          fmt::format("expected an answer's head of at most {} bytes", kHeadBytesMax));
    }
    if (found == std::string::npos) {
      searched = self->in.size() - std::min(self->in.size(), kHeadEnd.size() - 1);
      const End end = co_await self->stream->read_some(self->in, until);
      if (end != End::kDone) co_return self->error_of(end, "awaiting an answer of");
      continue;
    }
    const std::size_t bytes = found + kHeadEnd.size();
    self->parser.emplace();
    self->parser->skip(head_only);
    const auto parsed = self->parser->parse_head(std::string_view{self->in}.substr(0, bytes));
    if (!parsed) co_return self->protocol(parsed.error().message);
    self->in.erase(0, bytes);
    searched = 0;
    // 100 and its kin announce the answer proper.
    if (self->parser->status() / 100 != 1) break;
  }
  self->framing = self->parser->framing();
  self->keep_alive = self->parser->keep_alive();
  self->body_done = self->framing == Framing::kNone;
  if (self->framing == Framing::kLength) self->length_left = *self->parser->content_length();
  co_return ResponseHead{self->parser->status(), std::move(self->parser->headers())};
}

/// Payload among the bytes received; empty if there is none yet.
Result<std::string_view> ClientConnection::Impl::take_buffered() {
  out.clear();
  if (framing == Framing::kChunked) {
    parser->body().clear();
    const auto used = parser->parse_chunked(in, std::numeric_limits<std::size_t>::max());
    if (!used) return protocol(used.error().message);
    in.erase(0, *used);
    body_done = parser->is_done();
    if (in.size() > kHeadBytesMax && !body_done) return protocol("expected smaller chunk headers");
    return std::string_view{parser->body()};
  }
  if (framing == Framing::kLength && in.size() > length_left) {
    const auto here = static_cast<std::size_t>(length_left);
    out.assign(in, 0, here);
    in.erase(0, here);
  } else {
    std::swap(in, out);
  }
  if (framing == Framing::kLength) {
    length_left -= out.size();
    body_done = length_left == 0;
  }
  return std::string_view{out};
}

asio::awaitable<Result<std::string_view>> ClientConnection::Impl::read_some(Self self,
                                                                            TimePoint deadline) {
  while (!self->body_done) {
    const auto payload = self->take_buffered();
    if (!payload || !payload->empty() || self->body_done) co_return payload;
    const End end = co_await self->stream->read_some(self->in, deadline);
    if (end == End::kEof && self->framing == Framing::kUntilClose) {
      self->body_done = true;
    } else if (end != End::kDone) {
      co_return self->error_of(end, "reading from");
    }
  }
  co_return std::string_view{};
}

asio::awaitable<Result<std::string>> ClientConnection::Impl::read_all(Self self,
                                                                      std::size_t bytes_max,
                                                                      TimePoint deadline) {
  std::string body;
  while (true) {
    const auto part = co_await read_some(self, deadline);
    if (!part) co_return part.error();
    if (part->empty()) co_return std::move(body);
    if (part->size() > bytes_max - body.size()) {
      co_return self->protocol(fmt::format("expected a body of at most {} bytes", bytes_max));
    }
    body += *part;
  }
}

ClientConnection::ClientConnection(asio::any_io_executor executor, Address address)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(address))) {}

ClientConnection::~ClientConnection() { impl_->close(); }

asio::awaitable<Result<void>> ClientConnection::connect(Deadline deadline) {
  return Impl::connect(impl_, deadline);
}

asio::awaitable<Result<ResponseHead>> ClientConnection::send(const Request& request,
                                                             Deadline deadline) {
  return Impl::send(impl_, request, deadline.when());
}

asio::awaitable<Result<std::string_view>> ClientConnection::read_some(Deadline deadline) {
  return Impl::read_some(impl_, deadline.when());
}

asio::awaitable<Result<std::string>> ClientConnection::read_all(std::size_t bytes_max,
                                                                Deadline deadline) {
  return Impl::read_all(impl_, bytes_max, deadline.when());
}

void ClientConnection::close() { impl_->close(); }

bool ClientConnection::reusable() {
  if (!impl_->connected || !impl_->body_done || !impl_->keep_alive || !impl_->in.empty()) {
    return false;
  }
  return impl_->stream->is_quiet();
}

const Address& ClientConnection::address() const { return impl_->address; }

asio::awaitable<Result<Response>> fetch(Address address,
                                        Request request,
                                        std::size_t bytes_max,
                                        Deadline deadline) {
  ClientConnection connection{co_await asio::this_coro::executor, std::move(address)};
  if (auto connected = co_await connection.connect(deadline); !connected) {
    co_return connected.error();
  }
  auto head = co_await connection.send(request, deadline);
  if (!head) co_return head.error();
  auto body = co_await connection.read_all(bytes_max, deadline);
  if (!body) co_return body.error();
  co_return Response{head->status, std::move(head->headers), std::move(*body)};
}

}  // namespace mlxs::http
