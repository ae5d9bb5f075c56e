#include "http/stream.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// One for a thread: bytes are copied out before anything else can run.
thread_local std::array<char, 64 * 1024> scratch;

bool would_block(const error_code& error) {
  return error == asio::error::would_block || error == asio::error::try_again;
}

/// Drops the first `bytes` of `buffers`.
void consume(Stream::Buffers& buffers, std::size_t bytes) {
  for (asio::const_buffer& buffer : buffers) {
    const std::size_t here = std::min(bytes, buffer.size());
    buffer += here;
    bytes -= here;
  }
}

}  // namespace

Stream::Stream(Socket socket) : socket_(std::move(socket)), timer_(socket_.get_executor()) {
  if (socket_.is_open()) set_connected();
}

asio::awaitable<Stream::End> Stream::read_some(std::string& into, TimePoint deadline) {
  bool late = false;
  while (true) {
    error_code error;
    const std::size_t bytes = socket_.read_some(asio::buffer(scratch), error);
    into.append(scratch.data(), bytes);
    if (!error) co_return End::kDone;
    if (error == asio::error::eof) co_return End::kEof;
    if (error == asio::error::interrupted) continue;
    if (!would_block(error)) co_return end_of(error);
    if (late) co_return End::kTimeout;
    const End ready = co_await wait(Socket::wait_read, deadline);
    // A loop that stood still itself finds its timer expired with the bytes already there: looks.
    late = ready == End::kTimeout;
    if (ready != End::kDone && !late) co_return ready;
  }
}

asio::awaitable<Stream::End> Stream::write(Buffers buffers,
                                           Milliseconds stall,
                                           TimePoint deadline) {
  bool late = false;
  while (true) {
    const std::size_t left = asio::buffer_size(buffers);
    if (const auto end = try_write(buffers)) co_return *end;
    if (late && asio::buffer_size(buffers) == left) co_return End::kTimeout;
    const TimePoint stalled = Deadline::after(stall).when();
    const End ready = co_await wait(Socket::wait_write, std::min(stalled, deadline));
    late = ready == End::kTimeout;  // As above.
    if (ready != End::kDone && !late) co_return ready;
  }
}

std::optional<Stream::End> Stream::try_write(Buffers& buffers) {
  std::size_t left = asio::buffer_size(buffers);
  while (left > 0) {
    error_code error;
    const std::size_t bytes = socket_.write_some(buffers, error);
    left -= bytes;
    if (left == 0) break;
    consume(buffers, bytes);
    if (!error || error == asio::error::interrupted) continue;
    if (would_block(error)) return std::nullopt;
    return end_of(error);
  }
  return End::kDone;
}

asio::awaitable<Stream::End> Stream::wait(Socket::wait_type type, TimePoint deadline) {
  if (!socket_.is_open()) co_return End::kClosed;
  limit(deadline);
  const auto [error] = co_await socket_.async_wait(type, kAwait);
  deadline_ = TimePoint::max();
  co_return end_of(error);
}

asio::awaitable<Stream::End> Stream::connect(Socket::endpoint_type endpoint, TimePoint deadline) {
  limit(deadline);
  const auto [error] = co_await socket_.async_connect(endpoint, kAwait);
  deadline_ = TimePoint::max();
  if (error) co_return end_of(error);
  set_connected();
  co_return End::kDone;
}

void Stream::interrupt() {
  error_code ignored;
  if (socket_.is_open()) socket_.cancel(ignored);
}

void Stream::close() {
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
  armed_for_ = deadline_ = TimePoint::max();
}

Stream::Peek Stream::peek() {
  char byte = 0;
  while (socket_.is_open()) {
    const auto got = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0) return Peek::kBytes;
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? Peek::kNothing : Peek::kClosed;
  }
  return Peek::kClosed;
}

bool Stream::peer_closed() { return peek() == Peek::kClosed; }

bool Stream::is_quiet() { return peek() == Peek::kNothing; }

void Stream::set_connected() {
  error_code ignored;
  socket_.non_blocking(true, ignored);
}

Stream::End Stream::end_of(const error_code& error) {
  if (!error) return End::kDone;
  error_ = error;
  if (!socket_.is_open()) return End::kClosed;
  if (error != asio::error::operation_aborted) return End::kFailed;
  return expired_ ? End::kTimeout : End::kInterrupted;
}

// The timer is moved only when a deadline comes before the one it stands at; else it fires early,
// finds the later deadline and goes on. A busy connection so touches it once in many requests.
void Stream::limit(TimePoint deadline) {
  expired_ = false;
  deadline_ = deadline;
  if (deadline >= armed_for_) return;
  armed_for_ = deadline;
  timer_.expires_at(deadline);
  timer_.async_wait([weak = weak_from_this()](const error_code& error) {
    if (error) return;
    if (const auto self = weak.lock()) self->on_timer();
  });
}

void Stream::on_timer() {
  armed_for_ = TimePoint::max();
  if (deadline_ == TimePoint::max()) return;
  if (Clock::now() < deadline_) return limit(deadline_);
  expired_ = true;
  deadline_ = TimePoint::max();
  interrupt();
}

}  // namespace mlxs::http
