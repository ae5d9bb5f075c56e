// How a session reads a request: head, then body, each within its limits.
#include "http/session.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using End = Stream::End;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
// Reserved for a body before any of it has come.
constexpr std::size_t kBodyReserveBytes = 64 * 1024;
// Head room for chunk sizes, extensions and trailers between payloads.
constexpr std::size_t kChunkOverheadMax = 16 * 1024;

bool equals(std::string_view a, std::string_view b) {
  return boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

}  // namespace

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
      const Stream::Buffers go_on{asio::buffer(kContinue)};
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

}  // namespace mlxs::http
