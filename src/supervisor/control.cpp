#include "supervisor/control.h"

#include "base/log.h"
#include "supervisor/line_buffer.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <utility>

namespace mlxs::supervisor {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::size_t kLineBytesMax = 64UL * 1024;

}  // namespace

std::string config_message(std::string_view yaml) {
  return json::serialize(json::object{{"type", "config"}, {"yaml", yaml}});
}

std::string workers_message(const std::vector<WorkerEntry>& workers) {
  json::array table;
  for (const WorkerEntry& worker : workers) {
    table.push_back(json::object{{"id", worker.id},
                                 {"model", worker.model},
                                 {"address", worker.address},
                                 {"pid", worker.pid},
                                 {"state", worker.state},
                                 {"restarts", worker.restarts},
                                 {"error", worker.error},
                                 {"retry_in_ms", worker.retry_in_ms}});
  }
  return json::serialize(json::object{{"type", "workers"}, {"workers", std::move(table)}});
}

std::string drain_message() { return json::serialize(json::object{{"type", "drain"}}); }

std::string message_type(std::string_view line) {
  boost::system::error_code error;
  const json::value message = json::parse(line, error);
  if (error || !message.is_object()) return {};
  const json::value* const type = message.as_object().if_contains("type");
  return type != nullptr && type->is_string() ? std::string{type->as_string()} : std::string{};
}

struct ControlChannel::Impl : std::enable_shared_from_this<ControlChannel::Impl> {
  Impl(asio::io_context& loop, OnMessage callback)
      : socket(loop), on_message(std::move(callback)) {}

  void read() {
    socket.async_read_some(
        asio::buffer(input), [self = shared_from_this()](auto error, std::size_t length) {
          if (error || !self->on_message) return;  // its end shows as the process's end
          self->lines.feed({self->input.data(), length}, [&](std::string_view line) {
            const std::string type = message_type(line);
            if (type.empty()) {
              spdlog::warn("the gateway sent a line that is no message");
            } else if (self->on_message) {
              self->on_message(type);
            }
          });
          if (self->on_message) self->read();
        });
  }

  void write() {
    if (!output.empty()) return;
    if (auto message = std::exchange(config, std::nullopt)) output += *message + "\n";
    if (auto message = std::exchange(workers, std::nullopt)) output += *message + "\n";
    if (std::exchange(drain, false)) output += drain_message() + "\n";
    if (output.empty()) return;
    asio::async_write(
        socket, asio::buffer(output), [self = shared_from_this()](auto error, std::size_t) {
          if (error) return;
          self->output.clear();
          self->write();
        });
  }

  asio::local::stream_protocol::socket socket;
  OnMessage on_message;
  std::array<char, 4096> input{};
  LineBuffer lines{kLineBytesMax};
  std::optional<std::string> config;
  std::optional<std::string> workers;
  bool drain = false;
  std::string output;  ///< Being written.
};

ControlChannel::ControlChannel(asio::io_context& loop, Fd socket, OnMessage on_message)
    : impl_(std::make_shared<Impl>(loop, std::move(on_message))) {
  impl_->socket.assign(asio::local::stream_protocol{}, socket.release());
  impl_->read();
}

ControlChannel::~ControlChannel() {
  impl_->on_message = nullptr;
  boost::system::error_code ignored;
  impl_->socket.close(ignored);
}

void ControlChannel::send_config(std::string message) {
  impl_->config = std::move(message);
  impl_->write();
}

void ControlChannel::send_workers(std::string message) {
  impl_->workers = std::move(message);
  impl_->write();
}

void ControlChannel::send_drain() {
  impl_->drain = true;
  impl_->write();
}

}  // namespace mlxs::supervisor
