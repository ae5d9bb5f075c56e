#include "worker/router.h"

#include "worker/endpoints.h"
#include "worker/reply.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace mlxs::worker {
namespace {

struct Route {
  std::string_view method;
  std::string_view path;  ///< With a last "/": and everything below it.
  boost::asio::awaitable<void> (*handler)(Context&, Reply&);
};

constexpr std::array kRoutes{
    Route{"POST", "/v1/chat/completions", &chat_completions},
    Route{"POST", "/v1/completions", &completions},
    Route{"GET", "/v1/models", &list_models},
    Route{"GET", "/v1/models/", &show_model},
    Route{"POST", "/tokenize", &tokenize},
    Route{"POST", "/detokenize", &detokenize},
    Route{"GET", "/health", &health},
    Route{"GET", "/metrics", &metrics},
    Route{"GET", "/internal/state", &state},
};

bool matches(const Route& route, std::string_view path) {
  if (!route.path.ends_with('/')) return path == route.path;
  return path.starts_with(route.path) && path.size() > route.path.size();
}

/// A web page can send other types to a loopback address without asking; JSON it cannot.
bool is_json(const http::Request& request) {
  const auto type = request.headers.get("content-type");
  if (!type) return true;
  constexpr std::string_view kJson = "application/json";
  const auto same = [](char a, char b) { return a == b || (a >= 'A' && a <= 'Z' && a + 32 == b); };
  const std::string_view given = type->substr(0, type->find(';'));
  const std::string_view trimmed = given.substr(0, given.find_last_not_of(' ') + 1);
  return std::ranges::equal(trimmed, kJson, same);
}

boost::asio::awaitable<void> wrong_method(Reply& reply, const Route& route) {
  http::Response response = render_error(
      {ErrorCode::kMethodNotAllowed,
       fmt::format("{} is not allowed here; use {}.", reply.request().method, route.method)});
  response.headers.add("allow", std::string{route.method});
  co_await reply.send(std::move(response));
}

}  // namespace

boost::asio::awaitable<void> answer(Context& context, http::Exchange& exchange) {
  Reply reply{context, exchange};
  const http::Request& request = exchange.request();
  const auto path = request.path();
  const auto route = std::ranges::find_if(
      kRoutes, [path](const Route& candidate) { return matches(candidate, path); });
  if (route == kRoutes.end()) {
    Error error{ErrorCode::kNotFound, fmt::format("No route {} {}.", request.method, path)};
    co_await reply.fail(std::move(error));
  } else if (request.method != route->method) {
    co_await wrong_method(reply, *route);
  } else if (request.method == "POST" && !is_json(request)) {
    Error error{ErrorCode::kUnsupportedMedia, "Expected content-type application/json."};
    co_await reply.fail(std::move(error));
  } else {
    co_await route->handler(context, reply);
  }
}

}  // namespace mlxs::worker
