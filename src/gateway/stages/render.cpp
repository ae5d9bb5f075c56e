#include "gateway/stages/render.h"

#include "api/render.h"
#include "base/ids.h"
#include "gateway/flight/flight.h"
#include "gateway/stages/attendance.h"
#include "http/head.h"
#include "http/sse.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

Error deadline_error() {
  return {ErrorCode::kDeadlineExceeded, "[deadline] the request's deadline passed"};
}

// Subscribers of one flight fail together; their retries had better not come together, too.
std::optional<int> retry_after_s(LoopContext& context, const AnswerSource& source) {
  const auto seconds = source.log->retry_after_s();
  if (!seconds || !source.flight) return seconds;
  if (context.shared.flights.subscribers_ever(source.flight.flight()) < 2) return seconds;
  constexpr double kUnit = 1.0 / 18446744073709551616.0;  // 2^-64
  const double factor = 0.5 + static_cast<double>(random_u64()) * kUnit;
  return std::max(1, static_cast<int>(std::lround(*seconds * factor)));
}

http::Headers stream_headers() {
  http::Headers headers;
  headers.add("content-type", "text/event-stream; charset=utf-8");
  headers.add("cache-control", "no-store");
  headers.add("x-accel-buffering", "no");
  return headers;
}

// The head with the first bytes behind it. What it has in common with those of the flight's other
// streams is rendered once.
asio::awaitable<Result<void>> start(http::Exchange& exchange,
                                    const RequestScope& scope,
                                    FrameReader& frames,
                                    std::string_view bytes) {
  std::string& shared_fields = frames.head_fields();
  if (shared_fields.empty()) {
    http::Headers common = stream_headers();
    scope.add_shared_headers(common);
    shared_fields = http::render_fields(common);
  }
  http::StreamHead head{.status = 200, .headers = {}, .shared_fields = shared_fields};
  scope.add_own_headers(head.headers);
  return exchange.start_stream(std::move(head), bytes);
}

// What follows the last event: the end of a complete answer, or why there is none.
void append_end(std::string& out, FrameReader& frames, const AnswerSource& source) {
  if (source.log->error())
    api::StreamRenderer::append_error(out, *source.log->error());
  else
    frames.append_end(out, usage_of(source));
}

}  // namespace

api::Usage usage_of(const AnswerSource& source) {
  api::Usage usage = source.log->usage();
  if (source.shared()) usage.cached_tokens = usage.prompt_tokens;
  return usage;
}

asio::awaitable<void> send_stream(http::Exchange& exchange,
                                  LoopContext& context,
                                  RequestScope& scope,
                                  AnswerSource& source,
                                  AnswerPlan plan) {
  Attendance attendance{exchange, context, scope, source, plan.join_timeout};
  std::optional<FrameReader> frames;
  const auto attach = [&] {
    frames.emplace(*source.log,
                   attendance.frames(plan.with_usage, plan.with_token_ids),
                   plan.with_usage,
                   plan.with_token_ids);
  };
  attach();
  std::string out;
  bool head_sent = false;
  TimePoint keep_alive_at = Clock::now() + plan.keep_alive;
  while (!attendance.gone()) {
    const Log& log = *source.log;
    const bool ended = log.ended();
    std::string_view bytes = frames->next();
    const bool nothing_shown = !head_sent && bytes.empty();
    bool last = ended && frames->at() == log.size();
    const TimePoint now = Clock::now();
    if (last) {
      if (log.error() && log.error()->code == ErrorCode::kCancelled) break;
      if (log.error() && nothing_shown) {
        co_await reply_error(exchange, scope, *log.error(), retry_after_s(context, source));
        co_return;
      }
      scope.record.error = log.error();
      out = bytes;
      append_end(out, *frames, source);
      bytes = out;
    } else if (plan.deadline.passed(now)) {
      if (nothing_shown) {
        co_await reply_error(exchange, scope, deadline_error());
        co_return;
      }
      scope.record.error = deadline_error();
      out = bytes;
      api::StreamRenderer::append_error(out, *scope.record.error);
      bytes = out;
      last = true;
    } else if (bytes.empty()) {
      if (attendance.moved(now)) {
        attach();
        continue;
      }
      if (now < keep_alive_at) {
        co_await attendance.wait(LogReader::For::kGrowth,
                                 std::min(keep_alive_at, plan.deadline.when()));
        continue;
      }
      bytes = http::kSseKeepAlive;
    }
    if (last && !head_sent && !scope.record.error) {
      // All of it is here, as for a kept answer: one write instead of three.
      http::Response whole{.status = 200, .headers = stream_headers(), .body = std::move(out)};
      co_await reply(exchange, scope, std::move(whole));
      co_return;
    }
    Result<void> sent;
    if (!head_sent)
      sent = co_await start(exchange, scope, *frames, bytes);
    else if (last)
      sent = co_await exchange.finish(bytes);
    else
      sent = co_await exchange.write(bytes);
    if (!sent) break;
    if (last && !head_sent) sent = co_await exchange.finish();
    if (!sent) break;
    if (last) co_return;
    head_sent = true;
    keep_alive_at = Clock::now() + plan.keep_alive;
  }
  scope.record.client_gone = true;
}

asio::awaitable<void> send_whole(http::Exchange& exchange,
                                 LoopContext& context,
                                 RequestScope& scope,
                                 AnswerSource& source,
                                 AnswerPlan plan) {
  Attendance attendance{exchange, context, scope, source, plan.join_timeout};
  while (!source.log->ended() && !attendance.gone()) {
    const TimePoint now = Clock::now();
    if (plan.deadline.passed(now)) {
      co_await reply_error(exchange, scope, deadline_error());
      co_return;
    }
    if (!attendance.moved(now))
      co_await attendance.wait(LogReader::For::kEnd, plan.deadline.when());
  }
  const Log& log = *source.log;
  if (!log.ended() || (log.error() && log.error()->code == ErrorCode::kCancelled)) {
    scope.record.client_gone = true;
    co_return;
  }
  if (log.error()) {
    co_await reply_error(exchange, scope, *log.error(), retry_after_s(context, source));
    co_return;
  }
  api::WholeRenderer renderer{log.head()};
  api::Delta delta;
  LogCursor cursor;
  while (cursor.index < log.size()) {
    log.read(cursor, delta);
    renderer.add(delta);
  }
  http::Response response;
  response.headers.add("content-type", "application/json");
  response.body = renderer.render(usage_of(source));
  co_await reply(exchange, scope, std::move(response));
}

}  // namespace mlxs::gateway
