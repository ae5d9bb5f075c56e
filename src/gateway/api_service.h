#pragma once

#include "api/events.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/routes.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <functional>

namespace mlxs::gateway {

struct AnswerSource;

/// The API listener's requests, on one data loop: guards, route, authentication, and for
/// generations the stages in `DESIGN` order, each a small file under stages/.
/// `/ready` is 200 once at least one configured model has a ready worker, 503 before that and while
/// the gateway drains; `/health` is 200 as long as the loop answers at all.
class ApiService {
 public:
  /// `context` outlives it.
  explicit ApiService(LoopContext& context) : context_(context) {}

  boost::asio::awaitable<void> handle(http::Exchange& exchange);

  /// From now on /ready says no; `idle` is called once no request is being answered.
  void drain(std::function<void()> idle);
  [[nodiscard]] std::size_t active() const { return active_; }

 private:
  static const Route<ApiService> kRoutes[];

  boost::asio::awaitable<void> chat(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> completions(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> generate(http::Exchange& exchange,
                                        RequestScope& scope,
                                        api::Surface surface);
  boost::asio::awaitable<void> list_models(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> show_model(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> health(http::Exchange& exchange, RequestScope& scope);
  boost::asio::awaitable<void> ready(http::Exchange& exchange, RequestScope& scope);
  void announce(RequestRecord& record, const AnswerSource& source);
  void left();

  LoopContext& context_;
  std::size_t active_ = 0;
  bool draining_ = false;
  std::function<void()> idle_;
};

}  // namespace mlxs::gateway
