#pragma once

#include "base/result.h"
#include "http/message.h"

#include <boost/beast/http/basic_parser.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mlxs::http {

/// Finds the end of a request's head in bytes that arrive in any pieces, and refuses early what
/// Beast would take or wait on: bare line feeds, folded lines, too many fields, too long a target.
class HeadScanner {
 public:
  enum class State {
    kMore,
    kComplete,
    kMalformed,
    kTooManyFields,
    kTargetTooLong,
    kTooLong,
  };

  HeadScanner(std::size_t head_bytes_max, std::size_t fields_max, std::size_t target_bytes_max)
      : head_bytes_max_(head_bytes_max),
        fields_max_(fields_max),
        target_bytes_max_(target_bytes_max) {}

  /// `bytes` begins at the head's first byte and holds what the last call saw, and maybe more.
  [[nodiscard]] State scan(std::string_view bytes);
  [[nodiscard]] bool untouched() const { return scanned_ == 0; }
  /// Length of the head with its empty line, once complete.
  [[nodiscard]] std::size_t head_bytes() const { return line_begin_; }

 private:
  [[nodiscard]] State check_line(std::string_view line);

  std::size_t head_bytes_max_;
  std::size_t fields_max_;
  std::size_t target_bytes_max_;
  std::size_t line_begin_ = 0;
  std::size_t scanned_ = 0;
  std::size_t lines_ = 0;
};

/// How the body of a message is delimited.
enum class Framing { kNone, kLength, kChunked, kUntilClose };

/// Beast's message parser with plain fields for its result, so that nothing is copied twice.
/// Trailer fields are dropped: merged into the head they could overrule it.
template <bool kIsRequest>
class MessageParser : public boost::beast::http::basic_parser<kIsRequest> {
 public:
  MessageParser() {
    this->eager(true);
    this->body_limit(boost::none);
  }

  /// Takes a whole head, with its empty line. kInvalidRequest with what is wrong.
  [[nodiscard]] Result<void> parse_head(std::string_view head);
  /// Takes bytes of a chunked body, appends their payload to `body()`, and returns how many it
  /// used; the rest has to come again with more behind it. kInvalidRequest when malformed,
  /// kPayloadTooLarge when `body()` would exceed `body_bytes_max`.
  [[nodiscard]] Result<std::size_t> parse_chunked(std::string_view bytes,
                                                  std::size_t body_bytes_max);

  [[nodiscard]] Framing framing() const;
  std::string& method() { return method_; }
  std::string& target() { return target_; }
  [[nodiscard]] int status() const { return status_; }
  Headers& headers() { return headers_; }
  std::string& body() { return body_; }
  [[nodiscard]] bool is_http_1_0() const { return version_ == 10; }

 private:
  using View = boost::beast::string_view;
  using Code = boost::beast::error_code;

  void on_request_impl(
      boost::beast::http::verb, View method, View target, int version, Code& error) override;
  void on_response_impl(int status, View reason, int version, Code& error) override;
  void on_field_impl(boost::beast::http::field, View name, View value, Code& error) override;
  void on_header_impl(Code& error) override;
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, Code& error) override;
  std::size_t on_body_impl(View bytes, Code& error) override;
  void on_chunk_header_impl(std::uint64_t size, View extensions, Code& error) override;
  std::size_t on_chunk_body_impl(std::uint64_t remain, View bytes, Code& error) override;
  void on_finish_impl(Code& error) override;

  std::string method_;
  std::string target_;
  int status_ = 0;
  int version_ = 11;
  Headers headers_;
  std::string body_;
  std::size_t body_bytes_max_ = 0;
  std::size_t hosts_ = 0;
  bool transfer_encoding_ = false;
};

using RequestParser = MessageParser<true>;
using ResponseParser = MessageParser<false>;

extern template class MessageParser<true>;
extern template class MessageParser<false>;

}  // namespace mlxs::http
