// mlxs-mock-worker: a native worker that costs next to nothing, for measuring what stands in front
// of it. Every answer begins with the marker of its prompt ("#" and 16 hex digits, see mlxs-load
// --check echo), so that a mixed-up answer is seen.

#include "api/errors.h"
#include "http/address.h"
#include "http/server.h"

#include <CLI/CLI.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace {

using namespace mlxs;
namespace asio = boost::asio;

struct Knobs {
  int tokens = 8;                ///< Of an answer, one frame each.
  std::int64_t first_us = 0;     ///< From the request to the first frame.
  std::int64_t interval_us = 0;  ///< Between frames; 0: all in one write.
};

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::seconds kStateEvery{1};
constexpr std::size_t kMarker = 17;
constexpr const char* kEvents = "text/event-stream";

std::int64_t steady_ns() {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since_boot).count();
}

struct Counts {
  std::uint64_t generations = 0;
  std::uint64_t cancelled = 0;
  // Steady clock.
  std::int64_t first_token_ns = 0;  ///< When the latest first token was written.
  std::int64_t cancelled_ns = 0;    ///< When the latest client was found gone, at a write.
};

class Mock {
 public:
  Mock(asio::io_context& io, Knobs knobs) : io_(io), knobs_(knobs) {}

  asio::awaitable<void> handle(http::Exchange& exchange) {
    const std::string_view path = exchange.request().path();
    if (path == "/internal/state") return state(exchange);
    if (path == "/counts") return counts(exchange);
    if (path == "/v1/chat/completions") return generate(exchange, true);
    if (path == "/v1/completions") return generate(exchange, false);
    return models(exchange);
  }

 private:
  asio::awaitable<void> pause(std::chrono::microseconds time) {
    asio::steady_timer timer{io_, time};
    co_await timer.async_wait(kAwait);
  }

  asio::awaitable<void> models(http::Exchange& exchange) {
    http::Response response;
    response.headers.add("content-type", "application/json");
    response.body = R"({"object":"list","data":[]})";
    (void)co_await exchange.send(std::move(response));
  }

  asio::awaitable<void> counts(http::Exchange& exchange) {
    http::Response response;
    response.headers.add("content-type", "application/json");
    response.body =
        fmt::format(R"({{"generations":{},"cancelled":{},"first_token_ns":{},"cancelled_ns":{}}})",
                    counts_.generations,
                    counts_.cancelled,
                    counts_.first_token_ns,
                    counts_.cancelled_ns);
    (void)co_await exchange.send(std::move(response));
  }

  asio::awaitable<void> state(http::Exchange& exchange) {
    http::Headers headers;
    headers.add("content-type", kEvents);
    auto sent = co_await exchange.start_stream(200, std::move(headers));
    while (sent && !exchange.client_gone()) {
      const std::string event = fmt::format(
          "data: {{\"ready\":true,\"model\":\"m\",\"draining\":false,\"steps\":{},\"running\":0,"
          "\"waiting\":0,\"sequences_max\":100000,\"waiting_max\":100000}}\n\n",
          ++steps_);
      sent = co_await exchange.write(event);
      if (sent) co_await pause(kStateEvery);
    }
  }

  asio::awaitable<void> generate(http::Exchange& exchange, bool chat) {
    ++counts_.generations;
    const std::string& body = exchange.request().body;
    const std::size_t at = body.find('#');
    std::string text{"#none"};
    if (at != std::string::npos && at + kMarker <= body.size()) text = body.substr(at, kMarker);
    if (knobs_.first_us > 0) co_await pause(std::chrono::microseconds{knobs_.first_us});
    http::Headers headers;
    headers.add("content-type", kEvents);
    auto sent = co_await exchange.start_stream(200, std::move(headers));
    std::string out;
    counts_.first_token_ns = steady_ns();
    for (int i = 0; sent && i < knobs_.tokens; ++i) {
      append_token(out, i == 0 ? std::string_view{text} : std::string_view{" word"}, i, chat);
      if (knobs_.interval_us == 0) continue;
      sent = co_await exchange.write(out);
      out.clear();
      if (sent) co_await pause(std::chrono::microseconds{knobs_.interval_us});
    }
    append_end(out, chat);
    if (sent) sent = co_await exchange.write(out);
    if (sent) sent = co_await exchange.finish();
    if (sent) co_return;
    ++counts_.cancelled;
    counts_.cancelled_ns = steady_ns();
  }

  static void append_token(std::string& out, std::string_view text, int id, bool chat) {
    fmt::format_to(std::back_inserter(out),
                   R"(data: {{"id":"x","object":"{}","created":1,"model":"m","choices":[{{"index":)"
                   R"(0,{}"{}"{},"finish_reason":null}}],"mlxs":{{"token_ids":[{}]}}}})"
                   "\n\n",
                   chat ? "chat.completion.chunk" : "text_completion",
                   chat ? R"("delta":{"content":)" : R"("text":)",
                   text,
                   chat ? "}" : "",
                   id + 100);
  }

  void append_end(std::string& out, bool chat) const {
    fmt::format_to(std::back_inserter(out),
                   R"(data: {{"id":"x","object":"{0}","created":1,"model":"m","choices":[{{"index")"
                   R"(:0,{1},"finish_reason":"stop"}}]}})"
                   "\n\n"
                   R"(data: {{"id":"x","object":"{0}","created":1,"model":"m","choices":[],"usage")"
                   R"(:{{"prompt_tokens":90,"completion_tokens":{2},"total_tokens":{3}}}}})"
                   "\n\ndata: [DONE]\n\n",
                   chat ? "chat.completion.chunk" : "text_completion",
                   chat ? R"("delta":{})" : R"("text":"")",
                   knobs_.tokens,
                   knobs_.tokens + 90);
  }

  asio::io_context& io_;
  Knobs knobs_;
  Counts counts_;
  std::uint64_t steps_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"A native worker that answers at once", "mlxs-mock-worker"};
  Knobs knobs;
  std::string listen = "127.0.0.1:9001";
  app.add_option("--listen", listen, "HOST:PORT or unix:PATH");
  app.add_option("--tokens", knobs.tokens, "Of an answer")->check(CLI::Range(1, 1'000'000));
  app.add_option("--first-us", knobs.first_us, "From the request to the first frame");
  app.add_option("--interval-us", knobs.interval_us, "Between frames; 0: all in one write");
  CLI11_PARSE(app, argc, argv);

  const auto address = http::Address::parse(listen);
  if (!address) return fmt::print(stderr, "{}\n", address.error().message), 2;
  const auto listener = http::listen_on(*address);
  if (!listener) return fmt::print(stderr, "{}\n", listener.error().message), 1;
  asio::io_context io{1};
  Mock mock{io, knobs};
  http::Limits limits;
  limits.connections_max = 100'000;
  http::Server server{io,
                      *listener,
                      limits,
                      [&mock](http::Exchange& exchange) { return mock.handle(exchange); },
                      [](const Error& error) { return api::error_response(error); }};
  server.start();
  io.run();
  return 0;
}
