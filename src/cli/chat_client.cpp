#include "cli/chat_client.h"

#include "base/deadline.h"
#include "http/client.h"
#include "http/sse.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <exception>
#include <utility>

namespace mlxs::cli {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr Milliseconds kConnect{5'000};
constexpr Milliseconds kAnswerStart{600'000};  // As the official clients: a model may be loading.
constexpr Milliseconds kSilence{120'000};      // The server sends a comment every 15 s.
constexpr std::size_t kBodyBytesMax = 4UL * 1024 * 1024;

/// A request with what all of them carry.
http::Request make_request(const ChatSettings& settings,
                           std::string method,
                           const std::string& path) {
  http::Request request;
  request.method = std::move(method);
  request.target = settings.server.prefix + path;
  if (!settings.key.empty()) request.headers.add("authorization", "Bearer " + settings.key);
  return request;
}

const json::value* member(const json::value* value, std::string_view key) {
  return value != nullptr && value->is_object() ? value->as_object().if_contains(key) : nullptr;
}

std::string text_of(const json::value* value) {
  return value != nullptr && value->is_string() ? std::string{value->as_string()} : std::string{};
}

json::value parse_json(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  return error ? json::value{} : value;
}

/// The server's own sentence, else the status.
Error error_of_answer(int status, std::string_view body) {
  const json::value value = parse_json(body);
  const std::string message = text_of(member(member(&value, "error"), "message"));
  return fail(
      ErrorCode::kInvalidRequest,
      message.empty() ? fmt::format("the server answered with status {}", status) : message);
}

std::string request_body(const ChatSettings& settings, const std::vector<ChatMessage>& messages) {
  json::array list;
  for (const ChatMessage& message : messages)
    list.push_back(json::object{{"role", message.role}, {"content", message.content}});
  json::object body{{"model", settings.model}, {"messages", std::move(list)}, {"stream", true}};
  if (settings.temperature) body["temperature"] = *settings.temperature;
  if (settings.tokens_max) body["max_tokens"] = *settings.tokens_max;
  return json::serialize(body);
}

/// One exchange under way: the connection, and what `ask` hands out.
struct Exchange {
  http::ClientConnection connection;
  http::Request request;
  std::function<void(std::string_view)> on_text;
  std::string text;
};

/// Adds what one event brings; true at the end of the stream.
Result<bool> take_event(Exchange& exchange, const std::string& data) {
  if (data == "[DONE]") return true;
  const json::value event = parse_json(data);
  if (member(&event, "error") != nullptr) return error_of_answer(200, data);
  const json::value* const choices = member(&event, "choices");
  if (choices == nullptr || !choices->is_array() || choices->as_array().empty()) return false;
  const std::string piece =
      text_of(member(member(&choices->as_array().front(), "delta"), "content"));
  if (!piece.empty()) {
    exchange.text += piece;
    exchange.on_text(piece);
  }
  return false;
}

asio::awaitable<Result<void>> stream_answer(Exchange* exchange) {
  http::ClientConnection& connection = exchange->connection;
  auto connected = co_await connection.connect(Deadline::after(kConnect));
  if (!connected) co_return connected.error();
  const auto head = co_await connection.send(exchange->request, Deadline::after(kAnswerStart));
  if (!head) co_return head.error();
  if (head->status != 200) {
    const auto body = co_await connection.read_all(kBodyBytesMax, Deadline::after(kSilence));
    co_return error_of_answer(head->status, body ? *body : std::string{});
  }
  http::SseReader reader{kBodyBytesMax};
  http::SseReader::Event event;
  while (true) {
    const auto bytes = co_await connection.read_some(Deadline::after(kSilence));
    if (!bytes) co_return bytes.error();
    if (bytes->empty()) co_return fail(ErrorCode::kWorkerLost, "the answer broke off");
    reader.feed(*bytes);
    while (true) {
      const auto got = reader.next(event);
      if (!got) co_return got.error();
      if (!*got) break;
      const auto done = take_event(*exchange, event.data);
      if (!done) co_return done.error();
      if (*done) co_return Result<void>{};
    }
  }
}

void count_seconds(asio::steady_timer& timer, int seconds, const std::function<void(int)>& tell) {
  timer.expires_after(std::chrono::seconds{1});
  timer.async_wait([&timer, seconds, &tell](const boost::system::error_code& error) {
    if (error) return;
    tell(seconds);
    count_seconds(timer, seconds + 1, tell);
  });
}

}  // namespace

Result<ServerUrl> ServerUrl::parse(std::string_view text) {
  constexpr std::string_view kHttp = "http://";
  ServerUrl url;
  std::string host{text};
  std::string path;
  if (text.starts_with(kHttp)) {
    text.remove_prefix(kHttp.size());
    const std::size_t slash = std::min(text.find('/'), text.size());
    host = text.substr(0, slash);
    path = text.substr(slash);
    const bool has_port =
        host.find(':', host.find(']') == std::string::npos ? 0 : host.find(']')) !=
        std::string::npos;
    if (!has_port) host += ":80";
  } else if (!text.starts_with("unix:")) {
    return fail(ErrorCode::kInvalidRequest,
                fmt::format("\"{}\": expected http://HOST:PORT or unix:/path", text));
  }
  auto address = http::Address::parse(host);
  if (!address) return address.error();
  url.address = *std::move(address);
  while (path.ends_with('/')) path.pop_back();
  url.prefix = path.ends_with("/v1") ? path : path + "/v1";
  return url;
}

Result<std::string> first_model(const ChatSettings& settings) {
  asio::io_context loop{1};
  Result<http::Response> answer = fail(ErrorCode::kInternal, "no answer");
  asio::co_spawn(loop,
                 http::fetch(settings.server.address,
                             make_request(settings, "GET", "/models"),
                             kBodyBytesMax,
                             Deadline::after(kConnect)),
                 [&](const std::exception_ptr& thrown, Result<http::Response> got) {
                   loop.stop();
                   if (thrown) std::rethrow_exception(thrown);
                   answer = std::move(got);
                 });
  loop.run();
  if (!answer) return answer.error();
  if (answer->status != 200) return error_of_answer(answer->status, answer->body);
  const json::value list = parse_json(answer->body);
  const json::value* const data = member(&list, "data");
  if (data == nullptr || !data->is_array() || data->as_array().empty())
    return fail(ErrorCode::kModelNotFound, "the server lists no model");
  return text_of(member(&data->as_array().front(), "id"));
}

ChatAnswer ask(const ChatSettings& settings,
               const std::vector<ChatMessage>& messages,
               const ChatCallbacks& callbacks) {
  asio::io_context loop{1};
  asio::steady_timer seconds{loop};
  Exchange exchange{.connection = {loop.get_executor(), settings.server.address},
                    .request = make_request(settings, "POST", "/chat/completions"),
                    .on_text =
                        [&](std::string_view piece) {
                          seconds.cancel();
                          callbacks.text(piece);
                        },
                    .text = {}};
  exchange.request.headers.add("content-type", "application/json");
  exchange.request.body = request_body(settings, messages);
  ChatAnswer answer;
  asio::signal_set interrupt{loop, SIGINT};
  interrupt.async_wait([&](const boost::system::error_code& error, int /*signal*/) {
    if (error) return;
    answer.interrupted = true;
    exchange.connection.close();
  });
  if (callbacks.waiting) count_seconds(seconds, 1, callbacks.waiting);
  asio::co_spawn(loop,
                 stream_answer(&exchange),
                 [&](const std::exception_ptr& thrown, const Result<void>& result) {
                   loop.stop();  // The connection's own timers would keep it running.
                   if (thrown) std::rethrow_exception(thrown);
                   if (!result && !answer.interrupted) answer.error = result.error();
                 });
  loop.run();
  answer.text = std::move(exchange.text);
  return answer;
}

}  // namespace mlxs::cli
