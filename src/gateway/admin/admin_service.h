#pragma once

#include "gateway/fleet/fleet.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/routes.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::gateway {

/// The admin listener's requests, on the control thread, so that they are answered while the data
/// plane is busy: /health, /ready, /metrics and GET /admin/v1/{status,workers,models,config}. Host
/// and Origin guards as on the API; keys are asked for if some are configured and the listener can
/// be reached from other machines.
class AdminService {
 public:
  /// `shared` and `fleet` outlive it.
  AdminService(Shared& shared, Fleet& fleet, SettingsPtr settings);

  boost::asio::awaitable<void> handle(http::Exchange& exchange);
  void set_settings(SettingsPtr settings) { settings_ = std::move(settings); }
  void drain() { draining_ = true; }

 private:
  static const Route<AdminService> kRoutes[];

  boost::asio::awaitable<void> health(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> ready(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> metrics(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> status(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> workers(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> models(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> config(http::Exchange& exchange, RequestScope& scope);

  Shared& shared_;
  Fleet& fleet_;
  SettingsPtr settings_;
  TimePoint started_at_;
  bool draining_ = false;
};

}  // namespace mlxs::gateway
