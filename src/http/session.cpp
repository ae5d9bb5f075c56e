#include "http/session.h"

#include "base/assert.h"
#include "http/head.h"

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <iterator>
#include <utility>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using End = Stream::End;

// Kept for the next request; larger buffers go back.
constexpr std::size_t kKeptBytes = 4 * 1024;

bool has_no_body(int status) { return status / 100 == 1 || status == 204 || status == 304; }

constexpr std::string_view kCrLf = "\r\n";
constexpr std::string_view kLastChunk = "\r\n0\r\n\r\n";  // with the end of the one before it

void append_chunk_size(std::string& out, std::size_t bytes) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", bytes);
}

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
    if (++turns_ % kTurns == 0) co_await step_back();
  }
  co_await linger();
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

asio::awaitable<Result<void>> Session::start_stream(StreamHead head, std::string_view bytes) {
  MLXS_ASSERT(phase_ == Phase::kUnanswered);
  chunked_ = !http_1_0_;
  if (!chunked_) keep_alive_ = false;
  keep_alive_ = stays();
  std::string text =
      render_response_head(head.status,
                           head.headers,
                           {.keep_alive = keep_alive_, .http_1_0 = http_1_0_, .chunked = chunked_},
                           head.shared_fields);
  status_sent_ = head.status;
  phase_ = Phase::kStreaming;
  if (head_only_) bytes = {};
  const bool chunk = chunked_ && !bytes.empty();
  if (chunk) append_chunk_size(text, bytes.size());
  const Stream::Buffers buffers{buffer_of(text), buffer_of(bytes), buffer_of(chunk ? kCrLf : "")};
  Result<void> sent = co_await put(buffers);
  if (sent) bytes_sent_ += bytes.size();
  co_return sent;
}

asio::awaitable<Result<void>> Session::write(std::string_view bytes) {
  MLXS_ASSERT(phase_ == Phase::kStreaming || gone_);
  if (gone_) co_return left();
  // An empty chunk would end the body.
  if (bytes.empty() || head_only_) co_return Result<void>{};
  std::string size;
  if (chunked_) append_chunk_size(size, bytes.size());
  Stream::Buffers buffers{buffer_of(size), buffer_of(bytes), buffer_of(chunked_ ? kCrLf : "")};
  // Nearly always the kernel takes all of it, and no further coroutine is worth its frame.
  auto end = stream_->try_write(buffers);
  if (!end) end = co_await stream_->write(buffers, limits_.write_stall, TimePoint::max());
  Result<void> sent = settle(*end);
  if (sent) bytes_sent_ += bytes.size();
  if (++turns_ % kTurns == 0) co_await step_back();
  co_return sent;
}

asio::awaitable<Result<void>> Session::finish(std::string_view bytes) {
  MLXS_ASSERT(phase_ == Phase::kStreaming || gone_);
  if (gone_) co_return left();
  phase_ = Phase::kAnswered;
  if (head_only_) co_return Result<void>{};
  std::string size;
  std::string_view last;
  if (chunked_) {
    if (!bytes.empty()) append_chunk_size(size, bytes.size());
    last = bytes.empty() ? kLastChunk.substr(kCrLf.size()) : kLastChunk;
  }
  const Stream::Buffers buffers{buffer_of(size), buffer_of(bytes), buffer_of(last)};
  Result<void> sent = co_await put(buffers);
  if (sent) bytes_sent_ += bytes.size();
  co_return sent;
}

asio::awaitable<Result<void>> Session::put(Stream::Buffers buffers) {
  auto end = stream_->try_write(buffers);
  if (!end) end = co_await stream_->write(buffers, limits_.write_stall, TimePoint::max());
  co_return settle(*end);
}

Result<void> Session::settle(Stream::End end) {
  if (end == End::kDone) return {};
  keep_alive_ = false;
  stream_->close();
  if (handling_) lost();
  if (end != End::kTimeout) return left();
  return fail(ErrorCode::kRequestTimeout,
              fmt::format("[http] the client took nothing for {} ms", limits_.write_stall.count()));
}

asio::awaitable<void> Session::step_back() {
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
    if (++turns_ % kTurns == 0) co_await step_back();
  }
}

}  // namespace mlxs::http
