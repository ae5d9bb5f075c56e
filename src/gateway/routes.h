#pragma once

#include "gateway/request_scope.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

#include <algorithm>
#include <span>
#include <string_view>

namespace mlxs::gateway {

/// What one path of a listener takes.
struct RouteHead {
  std::string_view path;  ///< A trailing '/' stands for everything below.
  std::string_view method;
  bool open = false;  ///< No key needed.

  [[nodiscard]] bool takes(std::string_view asked) const {
    return path.ends_with('/') ? asked.starts_with(path) && asked.size() > path.size()
                               : asked == path;
  }
};

/// A path and the member of `Service` that answers it.
template <class Service>
struct Route {
  RouteHead head;
  boost::asio::awaitable<void> (Service::*handler)(http::Exchange&, RequestScope&);
};

/// What comes before any handler: guards, an unknown path (`head` is null), preflight, method and
/// key. True when the request may go on, with the scope's origin and the record's key set; else it
/// has been answered.
[[nodiscard]] boost::asio::awaitable<bool> may_enter(http::Exchange& exchange,
                                                     RequestScope& scope,
                                                     const GuardRules& rules,
                                                     const RouteHead* head);

/// Answers one request by the table `routes`, in which a path occurs once.
template <class Service>
boost::asio::awaitable<void> dispatch(Service& service,
                                      std::span<const Route<Service>> routes,
                                      const GuardRules& rules,
                                      http::Exchange& exchange,
                                      RequestScope& scope) {
  const std::string_view path = exchange.request().path();
  const auto route =
      std::ranges::find_if(routes, [&](const auto& one) { return one.head.takes(path); });
  const RouteHead* head = route == routes.end() ? nullptr : &route->head;
  const bool enters = co_await may_enter(exchange, scope, rules, head);
  if (enters) co_await (service.*route->handler)(exchange, scope);
}

}  // namespace mlxs::gateway
