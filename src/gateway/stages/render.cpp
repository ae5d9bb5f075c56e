#include "gateway/stages/render.h"

#include "http/sse.h"

#include <algorithm>
#include <string>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

// A client that lags behind catches up in pieces of this size.
constexpr std::size_t kWriteBytesMax = 64 * 1024;

Error deadline_error() {
  return {ErrorCode::kDeadlineExceeded, "[deadline] the request's deadline passed"};
}

// The end of one client's stream, once everything before it was rendered.
void append_end(std::string& out, api::StreamRenderer& renderer, const Log& log) {
  if (log.error()) {
    api::StreamRenderer::append_error(out, *log.error());
    return;
  }
  renderer.append_usage(out, log.usage());
  renderer.append_done(out);
}

asio::awaitable<Result<void>> send_head(http::Exchange& exchange, const RequestScope& scope) {
  http::Headers headers;
  headers.add("content-type", "text/event-stream; charset=utf-8");
  headers.add("cache-control", "no-store");
  headers.add("x-accel-buffering", "no");
  scope.add_headers(headers);
  return exchange.start_stream(200, std::move(headers));
}

}  // namespace

asio::awaitable<void> send_stream(http::Exchange& exchange,
                                  RequestScope& scope,
                                  FlightPtr flight,
                                  AnswerPlan plan) {
  Log& log = flight->log();
  api::StreamRenderer renderer{plan.head, plan.with_usage, plan.with_token_ids};
  api::Delta delta;
  std::string out;
  std::size_t at = 0;
  bool head_sent = false;
  TimePoint keep_alive_at = Clock::now() + plan.keep_alive;
  for (;;) {
    out.clear();
    while (at < log.size() && out.size() < kWriteBytesMax) {
      log.read(at++, delta);
      renderer.append(out, delta);
    }
    const bool end = log.ended() && at == log.size();
    if (end && log.error()) {
      if (log.error()->code == ErrorCode::kCancelled) break;
      if (!head_sent && log.size() == 0) {
        co_await reply_error(exchange, scope, *log.error(), flight->retry_after_s());
        co_return;
      }
      scope.record.error = log.error();
    }
    if (end) append_end(out, renderer, log);
    if (out.empty()) {
      const TimePoint now = Clock::now();
      if (plan.deadline.passed(now)) {
        flight->stop(deadline_error());
        continue;
      }
      if (now < keep_alive_at) {
        co_await log.wait_grown(std::min(keep_alive_at, plan.deadline.when()));
        continue;
      }
      out = http::kSseKeepAlive;
    }
    if (!head_sent) {
      if (auto sent = co_await send_head(exchange, scope); !sent) break;
      head_sent = true;
    }
    if (auto sent = co_await exchange.write(out); !sent) break;
    if (end) {
      if (auto sent = co_await exchange.finish(); !sent) break;
      co_return;
    }
    keep_alive_at = Clock::now() + plan.keep_alive;
  }
  scope.record.client_gone = true;
}

asio::awaitable<void> send_whole(http::Exchange& exchange,
                                 RequestScope& scope,
                                 FlightPtr flight,
                                 AnswerPlan plan) {
  Log& log = flight->log();
  while (!log.ended()) {
    if (plan.deadline.passed())
      flight->stop(deadline_error());
    else
      co_await log.wait_ended(plan.deadline.when());
  }
  if (log.error()) {
    if (log.error()->code == ErrorCode::kCancelled) {
      scope.record.client_gone = true;
      co_return;
    }
    co_await reply_error(exchange, scope, *log.error(), flight->retry_after_s());
    co_return;
  }
  api::WholeRenderer renderer{plan.head};
  api::Delta delta;
  for (std::size_t at = 0; at < log.size(); ++at) {
    log.read(at, delta);
    renderer.add(delta);
  }
  http::Response response;
  response.headers.add("content-type", "application/json");
  response.body = renderer.render(log.usage());
  co_await reply(exchange, scope, std::move(response));
}

}  // namespace mlxs::gateway
