#include "http/session.h"

#include "base/assert.h"
#include "http/head.h"

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/string.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <array>
#include <utility>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using End = Stream::End;

// Reserved for a body before any of it has come.
constexpr std::size_t kBodyReserveBytes = 64 * 1024;
// Head room for chunk sizes, extensions and trailers between payloads.
constexpr std::size_t kChunkOverheadMax = 16 * 1024;
// A connection that always has work ready lets others have a turn after this many.
constexpr unsigned kTurns = 32;
// Kept for the next request; larger buffers go back.
constexpr std::size_t kKeptBytes = 4 * 1024;

bool equals(std::string_view a, std::string_view b) {
  return beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

bool has_no_body(int status) { return status / 100 == 1 || status == 204 || status == 304; }

asio::const_buffer buffer_of(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Session::Session(std::shared_ptr<ServerState> state, Stream::Socket socket, Peer peer)
    : state_(std::move(state)),
      limits_(state_->limits),
      stream_(std::make_shared<Stream>(std::move(socket))),
      peer_(std::move(peer)) {
  admitted_ =
      state_->caps.admit(peer_, limits_.connections_max, limits_.connections_per_address_max);
  if (!admitted_) {
    state_->connections_refused.fetch_add(1, std::memory_order_relaxed);
    ++state_->refusals;
  }
  state_->sessions.insert(this);
  state_->connections_open.fetch_add(1, std::memory_order_relaxed);
}

Session::~Session() {
  stream_->close();
  if (admitted_) state_->caps.release(peer_);
  if (!admitted_) --state_->refusals;
  state_->sessions.erase(this);
  state_->connections_open.fetch_sub(1, std::memory_order_relaxed);
}

asio::awaitable<void> Session::run(std::shared_ptr<Session> self) {
  try {
    if (self->admitted_) {
      co_await self->serve();
    } else {
      Rejection full{
          fail(ErrorCode::kUnavailable, "[http] expected fewer connections: the limit is reached")};
      co_await self->tell(std::move(full));
      co_await self->linger();
    }
  } catch (const std::exception& e) {
    spdlog::error("[http] connection from {}: {}", self->peer_.name, e.what());
  }
  self->stream_->close();  // Also ends the watch, which holds this session.
}

void Session::drain() {
  if (idle_) stream_->interrupt();
}

void Session::stop() {
  keep_alive_ = false;
  stream_->close();
  if (handling_) lost();
}

asio::awaitable<void> Session::serve() {
  while (true) {
    RequestParser parser;
    ReadEnd end = co_await read_head(parser);
    if (end.complete) {
      begin_exchange(parser);
      end = co_await read_body(parser);
    }
    if (end.complete) {
      request_.body = std::move(parser.body());
      co_await answer();
    } else if (end.rejection) {
      state_->requests_rejected.fetch_add(1, std::memory_order_relaxed);
      co_await tell(std::move(*end.rejection));
    }
    if (std::exchange(counted_, false)) --state_->active;
    const bool answered = end.complete || end.rejection;
    if (!answered || phase_ == Phase::kCut) co_return;
    if (!stays()) break;
    request_ = {};
    if (in_.capacity() > kKeptBytes && in_.empty()) in_ = {};
    co_await be_fair();
  }
  co_await linger();
}

asio::awaitable<Session::ReadEnd> Session::read_head(RequestParser& parser) {
  HeadScanner scanner{limits_.head_bytes_max, limits_.head_fields_max, limits_.target_bytes_max};
  TimePoint deadline = TimePoint::max();
  while (true) {
    // Empty lines before a request are left over from sloppy clients (RFC 9112, 2.2).
    if (scanner.untouched()) {
      while (in_.starts_with("\r\n")) in_.erase(0, 2);
    }
    HeadScanner::State state = HeadScanner::State::kMore;
    if (!in_.empty() && in_ != "\r") state = scanner.scan(in_);
    if (state == HeadScanner::State::kComplete) break;
    if (state != HeadScanner::State::kMore) co_return refused(state);

    if (!in_.empty() && deadline == TimePoint::max()) {
      deadline = Deadline::after(limits_.head_read).when();
      count();
    }
    idle_ = deadline == TimePoint::max();
    if (idle_ && state_->draining) co_return ReadEnd{};
    const TimePoint until = idle_ ? Deadline::after(limits_.idle).when() : deadline;
    const End end = co_await stream_->read_some(in_, until);
    const bool was_idle = std::exchange(idle_, false);
    if (end == End::kTimeout && !was_idle) {
      co_return rejected(ErrorCode::kRequestTimeout,
                         fmt::format("[http] expected the request's head within {} ms",
                                     limits_.head_read.count()));
    }
    if (end == End::kInterrupted && !was_idle) continue;
    if (end != End::kDone) co_return ReadEnd{};
  }
  count();
  const auto parsed = parser.parse_head(std::string_view{in_}.substr(0, scanner.head_bytes()));
  if (!parsed) co_return ReadEnd{false, Rejection{parsed.error()}};
  in_.erase(0, scanner.head_bytes());
  co_return ReadEnd{true};
}

asio::awaitable<Session::ReadEnd> Session::read_body(RequestParser& parser) {
  const Framing framing = parser.framing();
  if (framing == Framing::kNone) co_return ReadEnd{true};
  if (framing == Framing::kLength && *parser.content_length() > limits_.body_bytes_max) {
    co_return rejected(ErrorCode::kPayloadTooLarge,
                       fmt::format("[http] expected a body of at most {} bytes, {} are declared",
                                   limits_.body_bytes_max,
                                   *parser.content_length()));
  }
  if (const auto expect = request_.headers.get("expect"); expect && !http_1_0_) {
    if (!equals(*expect, "100-continue")) {
      co_return rejected(ErrorCode::kInvalidRequest, "[http] expected no expectation but 100", 417);
    }
    if (in_.empty()) {
      const Stream::Buffers go_on{buffer_of("HTTP/1.1 100 Continue\r\n\r\n")};
      const auto told = co_await put(go_on);
      if (!told) co_return ReadEnd{};
    }
  }
  window_end_ = Deadline::after(limits_.body_stall).when();
  window_bytes_ = 0;
  if (framing == Framing::kLength) co_return co_await take_length(parser);
  co_return co_await take_chunked(parser);
}

asio::awaitable<Session::ReadEnd> Session::take_length(RequestParser& parser) {
  const std::size_t length = static_cast<std::size_t>(*parser.content_length());
  std::string& body = parser.body();
  // Grows with what has come, not with what is promised.
  body.reserve(std::min(length, kBodyReserveBytes));
  while (true) {
    const std::size_t here = std::min(length - body.size(), in_.size());
    body.append(in_, 0, here);
    in_.erase(0, here);
    if (body.size() == length) co_return ReadEnd{true};
    const End end = co_await read_body_bytes();
    if (end != End::kDone) co_return body_failed(end);
  }
}

asio::awaitable<Session::ReadEnd> Session::take_chunked(RequestParser& parser) {
  while (true) {
    const auto used = parser.parse_chunked(in_, limits_.body_bytes_max);
    if (!used) co_return ReadEnd{false, Rejection{used.error()}};
    in_.erase(0, *used);
    if (parser.is_done()) co_return ReadEnd{true};
    if (in_.size() > kChunkOverheadMax) {
      co_return rejected(ErrorCode::kHeadersTooLarge, "[http] expected smaller chunk headers");
    }
    const End end = co_await read_body_bytes();
    if (end != End::kDone) co_return body_failed(end);
  }
}

asio::awaitable<End> Session::read_body_bytes() {
  const std::size_t before = in_.size();
  End end = End::kInterrupted;
  while (end == End::kInterrupted) end = co_await stream_->read_some(in_, window_end_);
  window_bytes_ += in_.size() - before;
  // 1 KiB a second: as soon as a window has brought its share, the next one begins.
  const auto share = static_cast<std::size_t>(limits_.body_stall.count()) * 1024 / 1000;
  if (window_bytes_ >= share) {
    window_end_ = Deadline::after(limits_.body_stall).when();
    window_bytes_ = 0;
  }
  co_return end;
}

Session::ReadEnd Session::rejected(ErrorCode code, std::string message, int status) {
  return {false, Rejection{fail(code, std::move(message)), status}};
}

Session::ReadEnd Session::body_failed(End end) const {
  if (end != End::kTimeout) return {};
  return rejected(ErrorCode::kRequestTimeout,
                  fmt::format("[http] expected at least 1 KiB of body a second over {} ms",
                              limits_.body_stall.count()));
}

Session::ReadEnd Session::refused(HeadScanner::State state) const {
  switch (state) {
    case HeadScanner::State::kTooManyFields:
      return rejected(
          ErrorCode::kHeadersTooLarge,
          fmt::format("[http] expected at most {} header fields", limits_.head_fields_max));
    case HeadScanner::State::kTargetTooLong:
      return rejected(
          ErrorCode::kHeadersTooLarge,
          fmt::format("[http] expected a target of at most {} bytes", limits_.target_bytes_max),
          414);
    case HeadScanner::State::kTooLong:
      return rejected(ErrorCode::kHeadersTooLarge,
                      fmt::format("[http] expected a request line and headers of at most {} bytes",
                                  limits_.head_bytes_max));
    default:
      return rejected(ErrorCode::kInvalidRequest, "[http] expected HTTP/1.1, came something else");
  }
}

void Session::count() {
  if (std::exchange(counted_, true)) return;
  ++state_->active;
}

void Session::begin_exchange(RequestParser& parser) {
  state_->requests.fetch_add(1, std::memory_order_relaxed);
  ++exchange_;
  request_.method = std::move(parser.method());
  request_.target = std::move(parser.target());
  request_.headers = std::move(parser.headers());
  request_.peer = peer_.name;
  request_.arrived_at = Clock::now();
  phase_ = Phase::kUnanswered;
  keep_alive_ = parser.keep_alive();
  http_1_0_ = parser.is_http_1_0();
  head_only_ = request_.method == "HEAD";
  chunked_ = false;
  status_sent_ = 0;
  bytes_sent_ = 0;
}

asio::awaitable<void> Session::answer() {
  handling_ = true;
  bool failed = false;
  try {
    co_await state_->handler(*this);
  } catch (const std::exception& e) {
    spdlog::error("[http] {} {}: {}", request_.method, request_.path(), e.what());
    failed = true;
  } catch (...) {
    spdlog::error("[http] {} {}: unknown exception", request_.method, request_.path());
    failed = true;
  }
  if (phase_ == Phase::kUnanswered && !gone_) {
    if (!failed) spdlog::error("[http] {} {}: no answer", request_.method, request_.path());
    (void)co_await send(state_->render_error(
        fail(ErrorCode::kInternal, "[http] the server failed to answer this request")));
  }
  handling_ = false;
  gone_callback_ = nullptr;
  // An unfinished stream must look unfinished: no last chunk, and for HTTP/1.0, whose bodies end
  // with the connection, a reset instead of an orderly end.
  if (phase_ == Phase::kStreaming) {
    if (!chunked_) abort_connection();
    phase_ = Phase::kCut;
  }
  if (gone_) phase_ = Phase::kCut;
}

asio::awaitable<Result<void>> Session::send(Response response) {
  MLXS_ASSERT(phase_ == Phase::kUnanswered);
  HeadOptions options{.keep_alive = stays(), .http_1_0 = http_1_0_};
  keep_alive_ = options.keep_alive;
  if (!has_no_body(response.status)) options.content_length = response.body.size();
  const std::string head = render_response_head(response.status, response.headers, options);
  const bool with_body = !head_only_ && !has_no_body(response.status);
  const std::string_view body = with_body ? std::string_view{response.body} : std::string_view{};
  status_sent_ = response.status;
  phase_ = Phase::kAnswered;
  const Stream::Buffers buffers{buffer_of(head), buffer_of(body)};
  auto sent = co_await put(buffers);
  if (sent) bytes_sent_ += body.size();
  co_return sent;
}

asio::awaitable<Result<void>> Session::start_stream(int status, Headers headers) {
  MLXS_ASSERT(phase_ == Phase::kUnanswered);
  chunked_ = !http_1_0_;
  if (!chunked_) keep_alive_ = false;
  keep_alive_ = stays();
  const std::string head = render_response_head(
      status, headers, {.keep_alive = keep_alive_, .http_1_0 = http_1_0_, .chunked = chunked_});
  status_sent_ = status;
  phase_ = Phase::kStreaming;
  const Stream::Buffers buffers{buffer_of(head)};
  co_return co_await put(buffers);
}

asio::awaitable<Result<void>> Session::write(std::string_view bytes) {
  MLXS_ASSERT(phase_ == Phase::kStreaming || gone_);
  if (gone_) co_return left();
  // An empty chunk would end the body.
  if (bytes.empty() || head_only_) co_return Result<void>{};
  std::array<char, 24> size{};
  const auto end = fmt::format_to(size.data(), "{:x}\r\n", bytes.size());
  const std::string_view header{size.data(), static_cast<std::size_t>(end - size.data())};
  Stream::Buffers buffers{buffer_of(header), buffer_of(bytes), buffer_of("\r\n")};
  if (!chunked_) buffers = {buffer_of(bytes)};
  auto sent = co_await put(buffers);
  if (sent) bytes_sent_ += bytes.size();
  co_await be_fair();
  co_return sent;
}

asio::awaitable<Result<void>> Session::finish() {
  MLXS_ASSERT(phase_ == Phase::kStreaming || gone_);
  if (gone_) co_return left();
  phase_ = Phase::kAnswered;
  if (!chunked_ || head_only_) co_return Result<void>{};
  const Stream::Buffers last{buffer_of("0\r\n\r\n")};
  co_return co_await put(last);
}

asio::awaitable<Result<void>> Session::put(Stream::Buffers buffers) {
  const End end = co_await stream_->write(buffers, limits_.write_stall, TimePoint::max());
  if (end == End::kDone) co_return Result<void>{};
  keep_alive_ = false;
  stream_->close();
  if (handling_) lost();
  if (end == End::kTimeout) {
    co_return fail(
        ErrorCode::kRequestTimeout,
        fmt::format("[http] the client took nothing for {} ms", limits_.write_stall.count()));
  }
  co_return left();
}

// Once in a while, so that a connection that never has to wait does not keep the loop to itself.
asio::awaitable<void> Session::be_fair() {
  if (++turns_ % kTurns != 0) co_return;
  co_await asio::post(stream_->socket().get_executor(), asio::use_awaitable);
}

void Session::on_client_gone(std::function<void()> callback) {
  gone_callback_ = std::move(callback);
  if (!gone_callback_) return;
  if (gone_) {
    notify_gone();
  } else {
    watch();
  }
}

bool Session::client_gone() const {
  if (!gone_ && handling_ && !watching_) gone_ = stream_->peer_closed();
  return gone_;
}

// With the next request already in the queue, the end of the connection hides behind it and shows
// when that one is read. Stays armed from one request to the next: whatever makes the socket
// readable ends it, and it means something only while a handler runs.
void Session::watch() {
  if (watching_ || gone_) return;
  watching_ = true;
  stream_->socket().async_wait(Stream::Socket::wait_read,
                               [self = shared_from_this()](const boost::system::error_code& error) {
                                 self->watching_ = false;
                                 if (!self->handling_ || !self->gone_callback_) return;
                                 if (error) {
                                   if (self->stream_->socket().is_open()) self->watch();
                                   return;
                                 }
                                 if (self->stream_->peer_closed()) self->lost();
                               });
}

void Session::lost() {
  gone_ = true;
  if (gone_callback_) notify_gone();
}

void Session::notify_gone() {
  asio::post(stream_->socket().get_executor(), [self = shared_from_this(), at = exchange_] {
    if (!self->handling_ || self->exchange_ != at || !self->gone_callback_) return;
    std::exchange(self->gone_callback_, nullptr)();
  });
}

Error Session::left() { return fail(ErrorCode::kCancelled, "[http] the client left"); }

void Session::abort_connection() {
  boost::system::error_code ignored;
  stream_->socket().set_option(asio::socket_base::linger{true, 0}, ignored);
}

asio::awaitable<void> Session::tell(Rejection rejection) {
  Response response = state_->render_error(rejection.error);
  if (rejection.status != 0) response.status = rejection.status;
  phase_ = Phase::kUnanswered;
  keep_alive_ = false;
  head_only_ = false;
  http_1_0_ = false;
  (void)co_await send(std::move(response));
}

// Closing with unread bytes in the queue resets the connection, and the reset may overtake the
// answer: so say that no more comes, then read until the client has seen it or a bound is reached.
asio::awaitable<void> Session::linger() {
  boost::system::error_code ignored;
  stream_->socket().shutdown(asio::socket_base::shutdown_send, ignored);
  const TimePoint until = Deadline::after(limits_.linger).when();
  std::size_t drained = 0;
  while (drained < limits_.linger_bytes) {
    in_.clear();
    const End end = co_await stream_->read_some(in_, until);
    if (end == End::kInterrupted) continue;
    if (end != End::kDone) co_return;
    drained += in_.size();
    co_await be_fair();
  }
}

}  // namespace mlxs::http
