#pragma once

#include "gateway/admin/cache_admin.h"
#include "gateway/cache_keeper.h"
#include "gateway/fleet/fleet.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/routes.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::gateway {

/// The admin listener's requests, on the control thread, so that they are answered while the data
/// plane is busy: /health, /ready, /metrics, GET /admin/v1/{status,workers,models,config} and what
/// CacheAdmin has. Host and Origin guards and keys as on the API. What changes something has its
/// line in the access log.
class AdminService {
 public:
  /// `shared`, `fleet` and `keeper` outlive it.
  AdminService(Shared& shared, Fleet& fleet, CacheKeeper& keeper, SettingsPtr settings);

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
  boost::asio::awaitable<void> cache(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> flush(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> features(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> set_feature(http::Exchange& exchange, RequestScope& scope);

  Shared& shared_;
  Fleet& fleet_;
  CacheAdmin cache_;
  SettingsPtr settings_;
  TimePoint started_at_;
  bool draining_ = false;
};

}  // namespace mlxs::gateway
