#include "gateway/routes.h"

#include "gateway/stages/auth.h"
#include "gateway/stages/guard.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

namespace mlxs::gateway {
namespace asio = boost::asio;

asio::awaitable<bool> may_enter(http::Exchange& exchange,
                                RequestScope& scope,
                                const GuardRules& rules,
                                const RouteHead* head) {
  const http::Request& request = exchange.request();
  auto origin = check_guards(rules, request);
  if (!origin) {
    co_await reply_error(exchange, scope, origin.error());
    co_return false;
  }
  scope.origin = std::move(*origin);
  // Arguments of co_await are named: GCC 12 destroys braced temporaries there twice.
  if (head == nullptr) {
    Error error = fail(ErrorCode::kNotFound,
                       fmt::format("[http] there is no {} {}", request.method, request.path()));
    co_await reply_error(exchange, scope, std::move(error));
    co_return false;
  }
  if (is_preflight(request)) {
    http::Response response = preflight_response(scope.origin, head->method);
    co_await reply(exchange, scope, std::move(response));
    co_return false;
  }
  if (request.method != head->method) {
    Error error = fail(ErrorCode::kMethodNotAllowed,
                       fmt::format("[http] {} takes {}", request.path(), head->method));
    co_await reply_error(exchange, scope, std::move(error), std::nullopt, head->method);
    co_return false;
  }
  if (!head->open) {
    auto key = authenticate(scope.settings->config.keys, request);
    if (!key) {
      co_await reply_error(exchange, scope, key.error());
      co_return false;
    }
    scope.record.key = std::move(*key);
  }
  co_return true;
}

}  // namespace mlxs::gateway
