#include "http/parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/rfc7230.hpp>

#include <utility>

namespace mlxs::http {
namespace {

namespace beast = boost::beast;

// The longest method and version around a target that still has to be told from a too long one.
constexpr std::size_t kRequestLineRoom = 64;

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

std::string to_string(beast::string_view view) { return {view.data(), view.size()}; }

}  // namespace

HeadScanner::State HeadScanner::scan(std::string_view bytes) {
  // A method is upper case in practice: a TLS hello or other noise is refused at its first byte
  // instead of being waited on.
  if (!bytes.empty() && !is_upper(bytes.front())) return State::kMalformed;
  while (true) {
    const std::size_t end = bytes.find('\n', scanned_);
    if (end == std::string_view::npos) {
      scanned_ = bytes.size();
      if (lines_ == 0 && bytes.size() > target_bytes_max_ + kRequestLineRoom) {
        return State::kTargetTooLong;
      }
      return bytes.size() >= head_bytes_max_ ? State::kTooLong : State::kMore;
    }
    if (end >= head_bytes_max_) return State::kTooLong;
    if (end == line_begin_ || bytes[end - 1] != '\r') return State::kMalformed;
    const std::string_view line = bytes.substr(line_begin_, end - 1 - line_begin_);
    line_begin_ = scanned_ = end + 1;
    if (line.empty()) return lines_ > 0 ? State::kComplete : State::kMalformed;
    if (const State state = check_line(line); state != State::kMore) return state;
  }
}

HeadScanner::State HeadScanner::check_line(std::string_view line) {
  if (line.find('\r') != std::string_view::npos) return State::kMalformed;
  if (lines_++ == 0) {
    const std::size_t begin = line.find(' ');
    const std::size_t end = line.rfind(' ');
    if (begin == std::string_view::npos || begin == end) return State::kMalformed;
    return end - begin - 1 > target_bytes_max_ ? State::kTargetTooLong : State::kMore;
  }
  if (line.front() == ' ' || line.front() == '\t') return State::kMalformed;
  return lines_ - 1 > fields_max_ ? State::kTooManyFields : State::kMore;
}

template <bool kIsRequest>
Result<void> MessageParser<kIsRequest>::parse_head(std::string_view head) {
  // The caller has bounded the head already; Beast's own limit only has to stay out of the way.
  this->header_limit(static_cast<std::uint32_t>(head.size()) + 1);
  Code error;
  const std::size_t used = this->put(boost::asio::buffer(head), error);
  if (error == beast::http::error::need_more && this->is_header_done()) error = {};
  if (error) return fail(ErrorCode::kInvalidRequest, "[http] malformed head: " + error.message());
  if (!this->is_header_done() || used != head.size()) {
    return fail(ErrorCode::kInvalidRequest, "[http] malformed head");
  }
  return {};
}

template <bool kIsRequest>
Result<std::size_t> MessageParser<kIsRequest>::parse_chunked(std::string_view bytes,
                                                             std::size_t body_bytes_max) {
  body_bytes_max_ = body_bytes_max;
  Code error;
  const std::size_t used = this->put(boost::asio::buffer(bytes), error);
  if (error == beast::http::error::body_limit) {
    return fail(ErrorCode::kPayloadTooLarge,
                "[http] expected a body of at most " + std::to_string(body_bytes_max) +
                    " bytes, came a larger one");
  }
  if (error && error != beast::http::error::need_more) {
    return fail(ErrorCode::kInvalidRequest, "[http] malformed chunk: " + error.message());
  }
  return used;
}

template <bool kIsRequest>
Framing MessageParser<kIsRequest>::framing() const {
  if (this->is_done()) return Framing::kNone;
  if (this->chunked()) return Framing::kChunked;
  return this->content_length() ? Framing::kLength : Framing::kUntilClose;
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_request_impl(
    beast::http::verb, View method, View target, int version, Code&) {
  method_ = to_string(method);
  target_ = to_string(target);
  version_ = version;
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_response_impl(int status, View, int version, Code&) {
  status_ = status;
  version_ = version;
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_field_impl(beast::http::field name_code,
                                              View name,
                                              View value,
                                              Code&) {
  if (this->is_header_done()) return;
  if (name_code == beast::http::field::host) ++hosts_;
  if (name_code == beast::http::field::transfer_encoding) transfer_encoding_ = true;
  headers_.add(to_string(name), to_string(value));
}

// What Beast lets pass although a proxy in front might read it otherwise (request smuggling):
// a transfer coding that is not exactly "chunked", chunked in HTTP/1.0, no or several hosts.
template <bool kIsRequest>
void MessageParser<kIsRequest>::on_header_impl(Code& error) {
  if (transfer_encoding_) {
    const auto coding = headers_.get("transfer-encoding");
    if (!coding || !beast::iequals({coding->data(), coding->size()}, "chunked") || version_ == 10) {
      error = beast::http::error::bad_transfer_encoding;
    }
  }
  if (kIsRequest && (hosts_ > 1 || (hosts_ == 0 && version_ == 11))) {
    error = beast::http::error::bad_field;
  }
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_body_init_impl(const boost::optional<std::uint64_t>&, Code&) {}

template <bool kIsRequest>
std::size_t MessageParser<kIsRequest>::on_body_impl(View bytes, Code&) {
  body_.append(bytes.data(), bytes.size());
  return bytes.size();
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_chunk_header_impl(std::uint64_t size, View, Code& error) {
  if (size > body_bytes_max_ - std::min(body_bytes_max_, body_.size())) {
    error = beast::http::error::body_limit;
  }
}

template <bool kIsRequest>
std::size_t MessageParser<kIsRequest>::on_chunk_body_impl(std::uint64_t, View bytes, Code&) {
  body_.append(bytes.data(), bytes.size());
  return bytes.size();
}

template <bool kIsRequest>
void MessageParser<kIsRequest>::on_finish_impl(Code&) {}

template class MessageParser<true>;
template class MessageParser<false>;

}  // namespace mlxs::http
