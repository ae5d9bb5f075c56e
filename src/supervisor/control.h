#pragma once

#include "supervisor/fd.h"

#include <boost/asio/io_context.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::supervisor {

/// A worker as the gateway is told about it.
struct WorkerEntry {
  std::string id;
  std::string model;
  std::string address;
  int pid = 0;
  std::string state;  ///< starting | running | backoff | failed | stopping
  int restarts = 0;
  std::string error;
  std::int64_t retry_in_ms = 0;
};

// Messages to the gateway, one line each without its line break.
[[nodiscard]] std::string config_message(std::string_view yaml);
[[nodiscard]] std::string workers_message(const std::vector<WorkerEntry>& workers);
[[nodiscard]] std::string drain_message();
/// "ready" of {"type":"ready"}; empty if `line` is no message.
[[nodiscard]] std::string message_type(std::string_view line);

/// Our end of the channel to one gateway process. Loop thread only.
/// Bounded by what it keeps: the newest configuration, the newest table and whether to drain; a
/// gateway that does not read gets the newest state once it does.
class ControlChannel {
 public:
  using OnMessage = std::function<void(std::string_view type)>;

  ControlChannel(boost::asio::io_context& loop, Fd socket, OnMessage on_message);
  ~ControlChannel();
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  void send_config(std::string message);
  void send_workers(std::string message);
  void send_drain();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mlxs::supervisor
