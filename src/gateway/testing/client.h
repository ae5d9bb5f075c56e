#pragma once

#include "http/address.h"
#include "http/message.h"

#include <boost/json/value.hpp>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// A whole answer as a test looks at it.
struct Answer {
  int status = 0;  ///< 0: the connection ended before a head.
  http::Headers headers;
  std::string body;       ///< Chunking removed.
  bool complete = false;  ///< The body came to the end that its head announced.

  /// The body, null if it is no JSON.
  [[nodiscard]] boost::json::value json() const;
  /// error.code of an OpenAI-shaped error; "" if it is none.
  [[nodiscard]] std::string error_code() const;
  [[nodiscard]] std::string header(std::string_view name) const;
};

/// A blocking HTTP client for tests, one connection. Waits end after a minute.
class Client {
 public:
  /// `receive_buffer` bytes of kernel buffer, for clients that read slowly; 0 for the default.
  explicit Client(const http::Address& address, int receive_buffer = 0);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Host, content-type and content-length are added where missing.
  void send(const http::Request& request);
  void post(std::string path, std::string body, http::Headers headers = {});
  /// Reads one answer to its end.
  [[nodiscard]] Answer read();
  /// Reads the head only; `next_event` goes on.
  [[nodiscard]] Answer read_head();
  /// The next server-sent event's data, ": comment" for a comment; nothing once the body or the
  /// connection has ended, which `complete` tells apart.
  [[nodiscard]] std::optional<std::string> next_event();
  [[nodiscard]] bool complete() const { return complete_; }
  /// Chunks of the body so far: what the server wrote at once.
  [[nodiscard]] std::size_t chunks() const { return chunks_; }
  void close();

 private:
  bool receive();
  bool read_chunk();
  [[nodiscard]] bool receive_until(std::string_view end, std::size_t& found);

  int fd_ = -1;
  std::string in_;    // received, not yet looked at
  std::string text_;  // decoded, not yet taken
  std::size_t chunks_ = 0;
  bool chunked_ = false;
  std::size_t length_ = 0;  // of a body that is not chunked
  bool complete_ = false;
};

/// One request on a connection of its own.
[[nodiscard]] Answer get(const http::Address& address,
                         std::string path,
                         http::Headers headers = {});
[[nodiscard]] Answer post(const http::Address& address,
                          std::string path,
                          std::string body,
                          http::Headers headers = {});
[[nodiscard]] Answer put(const http::Address& address, std::string path, std::string body);
[[nodiscard]] http::Headers headers_of(
    std::initializer_list<std::pair<const char*, const char*>> fields);

}  // namespace mlxs::gateway
