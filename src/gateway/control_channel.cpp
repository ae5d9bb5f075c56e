#include "gateway/control_channel.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <spdlog/spdlog.h>

#include <string_view>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

ControlChannel::ControlChannel(asio::io_context& io, int descriptor) : socket_(io) {
  socket_.assign(asio::local::stream_protocol{}, descriptor);
}

asio::awaitable<std::optional<json::object>> ControlChannel::read() {
  const auto [error, bytes] =
      co_await asio::async_read_until(socket_,
                                      asio::dynamic_buffer(buffer_, kLineBytesMax),
                                      '\n',
                                      asio::as_tuple(asio::use_awaitable));
  if (error) co_return std::nullopt;
  boost::system::error_code bad;
  json::value message = json::parse(std::string_view{buffer_}.substr(0, bytes - 1), bad);
  buffer_.erase(0, bytes);
  if (bad || !message.is_object()) {
    spdlog::error("[control] the supervisor sent a line that is no JSON object");
    co_return std::nullopt;
  }
  co_return std::move(message.get_object());
}

asio::awaitable<void> ControlChannel::write(json::object message) {
  const std::string line = json::serialize(message) + "\n";
  (void)co_await asio::async_write(
      socket_, asio::buffer(line), asio::as_tuple(asio::use_awaitable));
}

void ControlChannel::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace mlxs::gateway
