#pragma once

#include "base/deadline.h"
#include "base/error.h"
#include "gateway/api_service.h"
#include "gateway/loop_context.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>

namespace mlxs::gateway {

/// One event loop of the data plane with its thread, its server on the shared API listener, and its
/// own connections to the workers. Members may be called from any thread after `start`; they post.
/// Ends by `stop`, then `join`, before it is destroyed.
class DataLoop {
 public:
  /// One of `loops`; `name` labels its metrics. `shared` outlives it.
  DataLoop(std::string name,
           std::size_t loops,
           int listener,
           Shared& shared,
           SettingsPtr settings,
           std::shared_ptr<const FleetTable> fleet);
  DataLoop(const DataLoop&) = delete;
  DataLoop& operator=(const DataLoop&) = delete;

  /// Starts the thread; returns once the loop accepts.
  void start();
  void update(SettingsPtr settings);
  void update(std::shared_ptr<const FleetTable> fleet);
  /// Stops accepting; calls `idle` on the loop's thread when no request is left.
  void drain(std::function<void()> idle);
  /// Ends all flights: their clients get `why` as status or error event.
  void cut(Error why);
  /// Closes everything.
  void stop();
  /// False if the loop did not end within `wait`; it must then not be destroyed.
  [[nodiscard]] bool join(Milliseconds wait);

 private:
  boost::asio::awaitable<void> housekeeping();
  boost::asio::awaitable<void> canary();
  void follow_fleet();

  std::string name_;
  std::size_t loops_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  LoopContext context_;
  ApiService service_;
  http::Server server_;
  Signal stop_signal_;
  bool stopping_ = false;
  std::promise<void> ended_;
  std::thread thread_;
};

}  // namespace mlxs::gateway
