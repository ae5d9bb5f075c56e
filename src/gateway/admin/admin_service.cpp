#include "gateway/admin/admin_service.h"

#include "base/version.h"

#include <boost/json/object.hpp>

#include <unistd.h>

#include <chrono>
#include <span>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

const Route<AdminService> AdminService::kRoutes[] = {
    {{"/health", "GET", true}, &AdminService::health},
    {{"/ready", "GET", true}, &AdminService::ready},
    {{"/metrics", "GET"}, &AdminService::metrics},
    {{"/admin/v1/status", "GET"}, &AdminService::status},
    {{"/admin/v1/workers", "GET"}, &AdminService::workers},
    {{"/admin/v1/models", "GET"}, &AdminService::models},
    {{"/admin/v1/config", "GET"}, &AdminService::config},
    {{"/admin/v1/cache", "GET"}, &AdminService::cache},
    {{"/admin/v1/cache/flush", "POST"}, &AdminService::flush},
    {{"/admin/v1/features", "GET"}, &AdminService::features},
    {{"/admin/v1/features/", "PUT"}, &AdminService::set_feature},
};

AdminService::AdminService(Shared& shared, Fleet& fleet, CacheKeeper& keeper, SettingsPtr settings)
    : shared_(shared),
      fleet_(fleet),
      cache_(shared, keeper),
      settings_(std::move(settings)),
      started_at_(Clock::now()) {}

asio::awaitable<void> AdminService::handle(http::Exchange& exchange) {
  RequestScope scope{settings_, exchange.request()};
  co_await dispatch(*this,
                    std::span<const Route<AdminService>>{kRoutes},
                    scope.settings->admin_guard,
                    exchange,
                    scope);
  if (exchange.request().method == "GET" || !shared_.access_log.enabled()) co_return;
  close_record(scope.record, exchange);
  shared_.access_log.write(to_json_line(scope.record));
}

asio::awaitable<void> AdminService::health(http::Exchange& exchange, RequestScope& scope) {
  return reply_json(exchange, scope, 200, json::object{{"status", "ok"}});
}

asio::awaitable<void> AdminService::ready(http::Exchange& exchange, RequestScope& scope) {
  return reply_ready(exchange, scope, fleet_.table()->any_ready(), draining_);
}

asio::awaitable<void> AdminService::metrics(http::Exchange& exchange, RequestScope& scope) {
  http::Response response;
  response.headers.add("content-type", "text/plain; version=0.0.4; charset=utf-8");
  response.body = shared_.metrics.registry.expose();
  return reply(exchange, scope, std::move(response));
}

asio::awaitable<void> AdminService::status(http::Exchange& exchange, RequestScope& scope) {
  const auto uptime = std::chrono::duration<double>(Clock::now() - started_at_).count();
  return reply_json(exchange,
                    scope,
                    200,
                    json::object{{"version", kVersion},
                                 {"uptime_s", uptime},
                                 {"ready", !draining_ && fleet_.table()->any_ready()},
                                 {"draining", draining_},
                                 {"pid", ::getpid()},
                                 {"in_flight", shared_.admission.in_flight()},
                                 {"in_flight_max", scope.settings->config.limits.in_flight},
                                 {"configured_at", scope.settings->loaded_at},
                                 {"models", fleet_.describe_models()}});
}

asio::awaitable<void> AdminService::workers(http::Exchange& exchange, RequestScope& scope) {
  return reply_json(exchange, scope, 200, json::object{{"workers", fleet_.describe_workers()}});
}

asio::awaitable<void> AdminService::models(http::Exchange& exchange, RequestScope& scope) {
  return reply_json(exchange, scope, 200, json::object{{"models", fleet_.describe_models()}});
}

asio::awaitable<void> AdminService::config(http::Exchange& exchange, RequestScope& scope) {
  // A hash of a weak secret can be guessed offline, so hashes stay here; names do not hurt.
  config::Config shown = scope.settings->config;
  for (config::Key& key : shown.keys) key.sha256 = {};
  return reply_json(exchange, scope, 200, json::object{{"yaml", config::render(shown)}});
}

asio::awaitable<void> AdminService::cache(http::Exchange& exchange, RequestScope& scope) {
  return cache_.show(exchange, scope);
}

asio::awaitable<void> AdminService::flush(http::Exchange& exchange, RequestScope& scope) {
  return cache_.flush(exchange, scope);
}

asio::awaitable<void> AdminService::features(http::Exchange& exchange, RequestScope& scope) {
  return cache_.features(exchange, scope);
}

asio::awaitable<void> AdminService::set_feature(http::Exchange& exchange, RequestScope& scope) {
  return cache_.set_feature(exchange, scope);
}

}  // namespace mlxs::gateway
