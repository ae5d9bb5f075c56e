#pragma once

#include "gateway/admin/access_log.h"
#include "gateway/admin/admin_service.h"
#include "gateway/app.h"
#include "gateway/control_channel.h"
#include "gateway/data_loop.h"
#include "gateway/fleet/fleet.h"
#include "gateway/loop_context.h"
#include "gateway/metrics.h"
#include "gateway/routing/round_robin.h"
#include "gateway/sharing/flight_table.h"
#include "gateway/stages/admission.h"
#include "gateway/tuning.h"
#include "http/server.h"
#include "telemetry/metrics.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

namespace mlxs::gateway {

/// The gateway process as an object: builds every part, owns the control thread's loop, and follows
/// the supervisor's messages. `run_gateway` is this with the tuning in force.
class Gateway {
 public:
  Gateway(const GatewayFds& fds, const Tuning& tuning);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  /// As run_gateway.
  int run();

 private:
  boost::asio::awaitable<void> control();
  boost::asio::awaitable<void> canary();
  boost::asio::awaitable<void> housekeeping();
  boost::asio::awaitable<void> drain();
  [[nodiscard]] bool configure(const boost::json::object& message);
  void begin(SettingsPtr settings);
  void reload(SettingsPtr settings);
  void publish(std::shared_ptr<const FleetTable> table);
  void end(int status);

  GatewayFds fds_;
  Tuning tuning_;
  telemetry::Registry registry_;
  Metrics metrics_;
  Admission admission_;
  RoundRobin round_robin_;
  boost::asio::io_context io_{1};
  AccessLog access_log_;
  Epochs epochs_;
  AnswerStore answers_;
  CacheKeeper cache_keeper_;
  Features features_;
  FlightTable flights_;
  Shared shared_;
  ControlChannel channel_;
  Signal changed_;  // of drain and canary: ending, or a loop got idle
  Fleet fleet_;
  SettingsPtr settings_;
  std::vector<std::unique_ptr<DataLoop>> loops_;
  std::optional<AdminService> admin_;
  std::optional<http::Server> admin_server_;
  std::size_t loops_busy_ = 0;  // while draining
  bool draining_ = false;
  bool ending_ = false;
  int status_ = 1;
};

}  // namespace mlxs::gateway
