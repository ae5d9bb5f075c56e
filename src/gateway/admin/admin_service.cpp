#include "gateway/admin/admin_service.h"

#include "base/version.h"
#include "gateway/stages/auth.h"
#include "gateway/stages/guard.h"

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

const AdminService::Route AdminService::kRoutes[] = {
    {"/health", true, &AdminService::health},
    {"/ready", true, &AdminService::ready},
    {"/metrics", false, &AdminService::metrics},
    {"/admin/v1/status", false, &AdminService::status},
    {"/admin/v1/workers", false, &AdminService::workers},
    {"/admin/v1/models", false, &AdminService::models},
    {"/admin/v1/config", false, &AdminService::config},
};

AdminService::AdminService(Shared& shared, Fleet& fleet, SettingsPtr settings)
    : shared_(shared), fleet_(fleet), settings_(std::move(settings)), started_at_(Clock::now()) {}

asio::awaitable<void> AdminService::handle(http::Exchange& exchange) {
  RequestScope scope{settings_, exchange.request()};
  co_await dispatch(exchange, scope);
}

asio::awaitable<void> AdminService::dispatch(http::Exchange& exchange, RequestScope& scope) {
  const http::Request& request = exchange.request();
  auto origin = check_guards(scope.settings->admin_guard, request);
  if (!origin) {
    co_await reply_error(exchange, scope, origin.error());
    co_return;
  }
  scope.origin = std::move(*origin);
  const Route* route = std::ranges::find(kRoutes, request.path(), &Route::path);
  // Arguments of co_await are named: GCC 12 destroys braced temporaries there twice.
  if (route == std::end(kRoutes)) {
    Error error = fail(ErrorCode::kNotFound,
                       fmt::format("[http] there is no {} {}", request.method, request.path()));
    co_await reply_error(exchange, scope, std::move(error));
    co_return;
  }
  if (is_preflight(request)) {
    http::Response response = preflight_response(scope.origin, "GET");
    co_await reply(exchange, scope, std::move(response));
    co_return;
  }
  if (request.method != "GET") {
    Error error =
        fail(ErrorCode::kMethodNotAllowed, fmt::format("[http] {} takes GET", route->path));
    co_await reply_error(exchange, scope, std::move(error), std::nullopt, "GET");
    co_return;
  }
  if (!route->open) {
    auto key = authenticate(scope.settings->config.keys, request);
    if (!key) {
      co_await reply_error(exchange, scope, key.error());
      co_return;
    }
  }
  co_await (this->*route->handler)(exchange, scope);
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

}  // namespace mlxs::gateway
