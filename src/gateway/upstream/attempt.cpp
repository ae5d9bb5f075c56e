#include "gateway/upstream/attempt.h"

#include "api/chunk.h"
#include "api/errors.h"
#include "http/sse.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kErrorBytesMax = 64 * 1024;
constexpr Milliseconds kErrorBodyWait{5'000};
constexpr Milliseconds kSettleWait{1'000};

AttemptEnd failed(ErrorCode code, std::string message) {
  return {.error = Error{code, std::move(message)}};
}

enum class Wait { kFirstEvent, kToken };

// A connection error after which the answer cannot go on, in the terms of the client.
AttemptEnd connection_failed(const Error& error, const AttemptRules& rules, Wait wait) {
  switch (error.code) {
    case ErrorCode::kDeadlineExceeded:
      if (rules.deadline.passed())
        return failed(ErrorCode::kDeadlineExceeded, "[attempt] the request's deadline passed");
      if (wait == Wait::kFirstEvent)
        return failed(ErrorCode::kDeadlineExceeded,
                      fmt::format("[attempt] the worker answered nothing in {} ms",
                                  rules.first_event.count()));
      return failed(
          ErrorCode::kWorkerLost,
          fmt::format("[attempt] no token from the worker in {} ms", rules.token.count()));
    case ErrorCode::kIo:
      return failed(ErrorCode::kWorkerLost, error.message);
    default:
      return {.error = error};
  }
}

std::optional<int> retry_after(const http::ResponseHead& head) {
  const auto header = head.headers.get("retry-after");
  if (!header) return std::nullopt;
  int seconds = 0;
  const auto [end, bad] = std::from_chars(header->data(), header->data() + header->size(), seconds);
  if (bad != std::errc{} || seconds < 0 || seconds > 3600) return std::nullopt;
  return seconds;
}

asio::awaitable<AttemptEnd> read_refusal(http::ClientConnection& connection,
                                         http::ResponseHead head,
                                         bool native) {
  auto body = co_await connection.read_all(kErrorBytesMax, Deadline::after(kErrorBodyWait));
  AttemptEnd end;
  end.error = api::read_error(head.status, body ? *body : std::string{});
  end.not_started = native && head.status == 503;
  end.retry_after_s = retry_after(head);
  co_return end;
}

// The choices an answer has shown so far, and which of them have ended.
class Choices {
 public:
  void note(const api::Delta& delta) {
    const auto at = static_cast<std::size_t>(delta.choice);
    if (ended_.size() <= at) ended_.resize(at + 1);
    if (!delta.finish_reason.empty()) ended_[at] = true;
  }
  [[nodiscard]] bool all_ended() const {
    return !ended_.empty() && std::ranges::find(ended_, false) == ended_.end();
  }

 private:
  std::vector<bool> ended_;
};

std::optional<Error> append_chunk(Log& log, Choices& choices, api::Chunk&& chunk) {
  for (api::Delta& delta : chunk.deltas) {
    choices.note(delta);
    if (!log.append(std::move(delta)))
      return Error{ErrorCode::kOutOfMemory,
                   "[attempt] the answer is longer than limits.answer_bytes"};
  }
  if (chunk.usage) log.set_usage(*chunk.usage);
  return std::nullopt;
}

asio::awaitable<AttemptEnd> read_whole(http::ClientConnection& connection,
                                       const AttemptRules& rules,
                                       Log& log) {
  const Deadline wait = Deadline::sooner(rules.deadline, Deadline::after(rules.first_event));
  auto body = co_await connection.read_all(rules.answer_bytes, wait);
  if (!body) co_return connection_failed(body.error(), rules, Wait::kFirstEvent);
  if (log.ended()) co_return failed(ErrorCode::kCancelled, "[attempt] the flight ended");
  auto chunk = api::parse_whole(rules.surface, *body);
  if (!chunk) co_return AttemptEnd{.error = chunk.error()};
  Choices choices;
  co_return AttemptEnd{.error = append_chunk(log, choices, std::move(*chunk))};
}

// All events that one read brought. True after [DONE].
Result<bool> read_events(http::SseReader& reader,
                         http::SseReader::Event& event,
                         const AttemptRules& rules,
                         Log& log,
                         Choices& choices,
                         bool& any) {
  for (;;) {
    auto more = reader.next(event);
    if (!more) return more.error();
    if (!*more) return false;
    any = true;
    if (event.data == "[DONE]") return true;
    auto chunk = api::parse_chunk(rules.surface, event.data);
    if (!chunk) return chunk.error();
    if (auto error = append_chunk(log, choices, std::move(*chunk))) return *error;
  }
}

asio::awaitable<AttemptEnd> read_stream(http::ClientConnection& connection,
                                        const AttemptRules& rules,
                                        Deadline first_event,
                                        Log& log) {
  http::SseReader reader{rules.answer_bytes};
  http::SseReader::Event event;
  // Silence is measured between events: a worker's keep-alive comments are no progress.
  Deadline wait = first_event;
  bool begun = false;
  Choices choices;
  for (;;) {
    auto bytes = co_await connection.read_some(wait);
    if (log.ended()) co_return failed(ErrorCode::kCancelled, "[attempt] the flight ended");
    if (!bytes)
      co_return connection_failed(bytes.error(), rules, begun ? Wait::kToken : Wait::kFirstEvent);
    if (bytes->empty()) {
      // Some servers leave out [DONE]; finish reasons say as much.
      if (choices.all_ended()) co_return AttemptEnd{};
      co_return failed(ErrorCode::kWorkerLost, "[attempt] the worker's answer ends unfinished");
    }
    reader.feed(*bytes);
    bool any = false;
    const auto done = read_events(reader, event, rules, log, choices, any);
    if (any) {
      begun = true;
      log.publish();
      wait = Deadline::sooner(rules.deadline, Deadline::after(rules.token));
    }
    if (!done) co_return AttemptEnd{.error = done.error()};
    if (!*done) continue;
    if (!choices.all_ended())
      co_return failed(ErrorCode::kWorkerProtocol,
                       "[attempt] the worker sent [DONE] without a finish_reason");
    co_return AttemptEnd{};
  }
}

}  // namespace

asio::awaitable<AttemptEnd> run_attempt(http::ClientConnection& connection,
                                        http::Request request,
                                        const AttemptRules& rules,
                                        Log& log,
                                        std::function<void()> begun) {
  const Deadline first_event = Deadline::sooner(rules.deadline, Deadline::after(rules.first_event));
  auto head = co_await connection.send(request, first_event);
  if (log.ended()) co_return failed(ErrorCode::kCancelled, "[attempt] the flight ended");
  if (!head) {
    AttemptEnd end = connection_failed(head.error(), rules, Wait::kFirstEvent);
    end.connection_lost =
        head.error().code == ErrorCode::kWorkerLost || head.error().code == ErrorCode::kIo;
    end.not_started = end.connection_lost;
    co_return end;
  }
  if (head->status != 200) {
    const bool native = rules.native;
    co_return co_await read_refusal(connection, std::move(*head), native);
  }
  request = {};
  begun();
  const auto type = head->headers.get("content-type");
  if (!type || !type->starts_with("text/event-stream"))
    co_return co_await read_whole(connection, rules, log);
  co_return co_await read_stream(connection, rules, first_event, log);
}

asio::awaitable<void> settle(http::ClientConnection& connection) {
  const Deadline wait = Deadline::after(kSettleWait);
  for (;;) {
    auto bytes = co_await connection.read_some(wait);
    if (!bytes || bytes->empty()) co_return;
  }
}

}  // namespace mlxs::gateway
