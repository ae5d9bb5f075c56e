#include "worker/endpoints.h"

#include <boost/json/object.hpp>

#include <string_view>

namespace mlxs::worker {
namespace {

// R-ENG-7: work exists and the engine thread has not got on for this long.
constexpr Milliseconds kStalled{5'000};

std::string_view status_of(Context& context) {
  if (!context.model.ready()) return "loading";
  return context.model.engine().stats().stalled >= kStalled ? "stalled" : "ok";
}

}  // namespace

boost::asio::awaitable<void> health(Context& context, Reply& reply) {
  const std::string_view status = status_of(context);
  boost::json::object body;
  body["status"] = status;
  co_await reply.send_json(body, status == "ok" ? 200 : 503);
}

boost::asio::awaitable<void> metrics(Context& context, Reply& reply) {
  if (context.model.ready()) context.metrics.set_engine(context.model.engine().stats());
  http::Response response;
  response.headers.add("content-type", "text/plain; version=0.0.4; charset=utf-8");
  response.body = context.metrics.expose();
  co_await reply.send(std::move(response));
}

}  // namespace mlxs::worker
