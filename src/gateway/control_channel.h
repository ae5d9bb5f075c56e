#pragma once

#include "base/result.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/json/object.hpp>

#include <optional>
#include <string>

namespace mlxs::gateway {

/// The gateway's end of the supervisor's socketpair: one JSON object a line, both ways. One loop.
class ControlChannel {
 public:
  static constexpr std::size_t kLineBytesMax = 16U << 20;

  /// Takes over `descriptor`.
  ControlChannel(boost::asio::io_context& io, int descriptor);

  /// The next message; nothing at the end of the channel, or when it carries something else than
  /// lines of JSON objects: without the supervisor's word there is nothing left to do.
  boost::asio::awaitable<std::optional<boost::json::object>> read();
  /// Writes one message. A failure is seen by `read`.
  boost::asio::awaitable<void> write(boost::json::object message);
  /// Ends a `read` that waits.
  void close();

 private:
  boost::asio::local::stream_protocol::socket socket_;
  std::string buffer_;
};

}  // namespace mlxs::gateway
