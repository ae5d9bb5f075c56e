#include "worker/reply.h"

#include "api/errors.h"
#include "base/ids.h"

#include <boost/json/serialize.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace mlxs::worker {
namespace {

constexpr std::size_t kRequestIdBytesMax = 128;
// A step takes well under a second, and each may free a place.
constexpr int kRetryAfterS = 1;

bool visible(std::string_view text) {
  return std::ranges::all_of(text,
                             [](char character) { return character > ' ' && character < 127; });
}

std::string request_id_of(const http::Request& request) {
  const auto given = request.headers.get("x-request-id");
  const bool usable = given && !given->empty() && given->size() <= kRequestIdBytesMax;
  return usable && visible(*given) ? std::string{*given} : random_id("req_");
}

}  // namespace

http::Response render_error(const Error& error) {
  std::optional<int> retry_after_s;
  const int status = error_info(error.code).http_status;
  if (error_info(error.code).may_retry && (status == 429 || status == 503))
    retry_after_s = kRetryAfterS;
  return api::error_response(error, retry_after_s);
}

Reply::Reply(Context& context, http::Exchange& exchange)
    : context_(context), exchange_(exchange), request_id_(request_id_of(exchange.request())) {}

void Reply::add_headers(http::Headers& headers) const {
  const auto spent =
      std::chrono::duration_cast<Milliseconds>(Clock::now() - exchange_.request().arrived_at);
  headers.set("x-request-id", request_id_);
  headers.set("openai-processing-ms", std::to_string(spent.count()));
  headers.set("openai-version", "2020-10-01");
}

boost::asio::awaitable<void> Reply::send(http::Response response) {
  add_headers(response.headers);
  // An error means that the client is gone: there is nobody left to tell.
  (void)co_await exchange_.send(std::move(response));
}

boost::asio::awaitable<void> Reply::send_json(const boost::json::object& body, int status) {
  http::Response response;
  response.status = status;
  response.headers.add("content-type", "application/json");
  response.body = boost::json::serialize(body);
  co_await send(std::move(response));
}

boost::asio::awaitable<void> Reply::fail(Error error) {
  spdlog::debug("{} {}: {}", request_id_, error_info(error.code).label, error.message);
  if (error.code == ErrorCode::kCancelled) co_return;
  context_.metrics.count_rejected(error.code);
  co_await send(render_error(error));
}

boost::asio::awaitable<Result<void>> Reply::start_events() {
  http::Headers headers;
  headers.add("content-type", "text/event-stream; charset=utf-8");
  headers.add("cache-control", "no-store");
  headers.add("x-accel-buffering", "no");
  add_headers(headers);
  co_return co_await exchange_.start_stream(200, std::move(headers));
}

}  // namespace mlxs::worker
