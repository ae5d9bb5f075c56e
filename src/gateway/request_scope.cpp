#include "gateway/request_scope.h"

#include "api/errors.h"
#include "gateway/stages/guard.h"
#include "gateway/stages/request_id.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <utility>

namespace mlxs::gateway {
namespace asio = boost::asio;

RequestScope::RequestScope(SettingsPtr snapshot, const http::Request& request)
    : settings(std::move(snapshot)) {
  record.arrived_at = request.arrived_at;
  record.request_id = request_id(request);
  record.method = request.method;
  record.path = request.path();
}

void RequestScope::add_headers(http::Headers& headers) const {
  add_shared_headers(headers);
  add_own_headers(headers);
}

void RequestScope::add_shared_headers(http::Headers& headers) const {
  headers.add("openai-version", "2020-10-01");  // what the OpenAI API itself answers
  if (!record.cache_key.empty()) headers.add("x-mlx-cache-key", record.cache_key);
}

void RequestScope::add_own_headers(http::Headers& headers) const {
  headers.add("x-request-id", record.request_id);
  const auto spent = std::chrono::duration_cast<Milliseconds>(Clock::now() - record.arrived_at);
  headers.add("openai-processing-ms", std::to_string(spent.count()));
  if (record.cache) headers.add("x-mlx-cache", std::string{to_string(*record.cache)});
  if (record.age) headers.add("age", std::to_string(record.age->count()));
  add_cors_headers(headers, origin);
}

asio::awaitable<void> reply(http::Exchange& exchange,
                            RequestScope& scope,
                            http::Response response) {
  scope.add_headers(response.headers);
  const auto sent = co_await exchange.send(std::move(response));
  if (!sent) scope.record.client_gone = true;
}

asio::awaitable<void> reply_json(http::Exchange& exchange,
                                 RequestScope& scope,
                                 int status,
                                 boost::json::value body) {
  http::Response response;
  response.status = status;
  response.headers.add("content-type", "application/json");
  response.body = boost::json::serialize(body);
  co_await reply(exchange, scope, std::move(response));
}

asio::awaitable<void> reply_error(http::Exchange& exchange,
                                  RequestScope& scope,
                                  Error error,
                                  std::optional<int> retry_after_s,
                                  std::string_view allow) {
  http::Response response = api::error_response(error, retry_after_s);
  if (!allow.empty()) response.headers.set("allow", std::string{allow});
  scope.record.error = std::move(error);
  co_await reply(exchange, scope, std::move(response));
}

asio::awaitable<void> reply_ready(http::Exchange& exchange,
                                  RequestScope& scope,
                                  bool any_ready,
                                  bool draining) {
  if (draining)
    return reply_error(
        exchange, scope, {ErrorCode::kShuttingDown, "[ready] the gateway is draining"});
  if (!any_ready)
    return reply_error(
        exchange, scope, {ErrorCode::kUnavailable, "[ready] no model has a ready worker yet"}, 1);
  return reply_json(exchange, scope, 200, boost::json::object{{"status", "ready"}});
}

void close_record(RequestRecord& record, const http::Exchange& exchange) {
  record.status = exchange.status_sent();
  record.bytes = exchange.bytes_sent();
  record.total = std::chrono::duration_cast<Milliseconds>(Clock::now() - record.arrived_at);
}

}  // namespace mlxs::gateway
