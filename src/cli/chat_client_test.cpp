#include "cli/chat_client.h"

#include "http/sse.h"
#include "http/test_server.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::cli {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string chunk(std::string_view text) {
  std::string out;
  http::append_sse_data(
      out,
      json::serialize(json::object{
          {"choices", json::array{json::object{{"delta", json::object{{"content", text}}}}}}}));
  return out;
}

/// A server that answers each request with the next of `answers`, in pieces.
class Server {
 public:
  struct Answer {
    int status = 200;
    std::vector<std::string> pieces;
    bool ends = true;  ///< Else it waits until the client leaves.
  };

  explicit Server(std::vector<Answer> answers)
      : answers_(std::move(answers)),
        server_([this](http::Exchange& exchange) { return answer(this, &exchange); }) {}

  ChatSettings settings() const {
    return {.server = *ServerUrl::parse("http://" + server_.address().to_string()),
            .key = {},
            .model = "m",
            .temperature = {},
            .tokens_max = {}};
  }

  http::Request request(std::size_t index) {
    return server_.on_loop([this, index](http::Server&) { return requests_.at(index); });
  }

 private:
  static asio::awaitable<void> answer(Server* self, http::Exchange* exchange) {
    self->requests_.push_back(exchange->request());
    const Answer answer = self->answers_.at(self->requests_.size() - 1);
    if (answer.status != 200 || answer.pieces.size() == 1) {
      http::Response response{answer.status, {}, answer.pieces.at(0)};
      (void)co_await exchange->send(response);
      co_return;
    }
    (void)co_await exchange->start_stream(200, {});
    for (const std::string& piece : answer.pieces) (void)co_await exchange->write(piece);
    while (!answer.ends) {
      const auto written = co_await exchange->write(http::kSseKeepAlive);
      if (!written) co_return;
    }
    (void)co_await exchange->finish();
  }

  std::vector<Answer> answers_;
  std::vector<http::Request> requests_;
  http::TestServer server_;
};

struct Heard {
  std::vector<std::string> pieces;
  ChatCallbacks callbacks{.text = [this](std::string_view piece) { pieces.emplace_back(piece); }};
};

TEST(ServerUrl, FindsAddressAndPrefix) {
  const auto parsed = [](const char* text) {
    const auto url = ServerUrl::parse(text);
    return url ? url->address.to_string() + " " + url->prefix : url.error().message;
  };

  EXPECT_EQ(parsed("http://127.0.0.1:8080"), "127.0.0.1:8080 /v1");
  EXPECT_EQ(parsed("http://127.0.0.1:8080/"), "127.0.0.1:8080 /v1");
  EXPECT_EQ(parsed("http://127.0.0.1:8080/v1/"), "127.0.0.1:8080 /v1");
  EXPECT_EQ(parsed("http://example.com/proxy"), "example.com:80 /proxy/v1");
  EXPECT_EQ(parsed("http://[::1]:9"), "[::1]:9 /v1");
  EXPECT_EQ(parsed("http://[::1]"), "[::1]:80 /v1");
  EXPECT_EQ(parsed("unix:/run/a.sock"), "unix:/run/a.sock /v1");
  EXPECT_THAT(parsed("https://example.com"), HasSubstr("expected http://HOST:PORT"));
  EXPECT_THAT(parsed("localhost:8080"), HasSubstr("expected http://HOST:PORT"));
  EXPECT_FALSE(ServerUrl::parse("http://:x"));
}

TEST(ChatClient, TakesTheFirstModelOfTheList) {
  Server server{{{.pieces = {R"({"object":"list","data":[{"id":"a"},{"id":"b"}]})"}}}};

  const auto model = first_model(server.settings());

  ASSERT_TRUE(model);
  EXPECT_EQ(*model, "a");
  EXPECT_EQ(server.request(0).target, "/v1/models");
}

TEST(ChatClient, SaysWhenThereIsNoModelOrNoServer) {
  Server server{{{.pieces = {R"({"data":[]})"}},
                 {.status = 401, .pieces = {R"({"error":{"message":"wrong key"}})"}}}};

  EXPECT_THAT(first_model(server.settings()).error().message, HasSubstr("no model"));
  EXPECT_EQ(first_model(server.settings()).error().message, "wrong key");
}

TEST(ChatClient, StreamsTheAnswerAndSendsTheWholeConversation) {
  Server server{{{.pieces = {chunk(""), chunk("Par"), chunk("is"), "data: [DONE]\n\n"}}}};
  ChatSettings settings = server.settings();
  settings.key = "secret";
  settings.temperature = 0.5;
  settings.tokens_max = 9;
  Heard heard;

  const ChatAnswer answer =
      ask(settings, {{"system", "be brief"}, {"user", "capital?"}}, heard.callbacks);

  EXPECT_EQ(answer.text, "Paris");
  EXPECT_EQ(answer.error.message, "");
  EXPECT_THAT(heard.pieces, ElementsAre("Par", "is"));
  const http::Request request = server.request(0);
  EXPECT_EQ(request.target, "/v1/chat/completions");
  EXPECT_EQ(request.headers.get("authorization"), "Bearer secret");
  EXPECT_EQ(json::parse(request.body),
            json::parse(R"({"model":"m","stream":true,"temperature":0.5,"max_tokens":9,"messages":[
                {"role":"system","content":"be brief"},{"role":"user","content":"capital?"}]})"));
}

TEST(ChatClient, ShowsTheServersOwnWordsOnAnError) {
  Server server{{{.status = 404, .pieces = {R"({"error":{"message":"no model m"}})"}},
                 {.status = 500, .pieces = {"not json"}}}};
  Heard heard;

  EXPECT_EQ(ask(server.settings(), {}, heard.callbacks).error.message, "no model m");
  EXPECT_THAT(ask(server.settings(), {}, heard.callbacks).error.message, HasSubstr("status 500"));
}

TEST(ChatClient, AnErrorInMidStreamKeepsWhatCame) {
  Server server{
      {{.pieces = {chunk("half"), "data: {\"error\":{\"message\":\"worker died\"}}\n\n"}}}};
  Heard heard;

  const ChatAnswer answer = ask(server.settings(), {}, heard.callbacks);

  EXPECT_EQ(answer.text, "half");
  EXPECT_EQ(answer.error.message, "worker died");
}

TEST(ChatClient, AStreamThatBreaksOffIsAnError) {
  Server server{{{.pieces = {chunk("half"), chunk(" done")}}}};
  Heard heard;

  const ChatAnswer answer = ask(server.settings(), {}, heard.callbacks);

  EXPECT_EQ(answer.text, "half done");
  EXPECT_EQ(answer.error.message, "the answer broke off");
}

TEST(ChatClient, InterruptStopsTheAnswerNotTheProgram) {
  Server server{{{.pieces = {chunk("never"), chunk(" ending")}, .ends = false}}};
  ChatCallbacks callbacks{.text = [](std::string_view) { std::raise(SIGINT); }};

  const ChatAnswer answer = ask(server.settings(), {}, callbacks);

  EXPECT_TRUE(answer.interrupted);
  EXPECT_THAT(answer.text, HasSubstr("never"));
  EXPECT_EQ(answer.error.message, "");
}

}  // namespace
}  // namespace mlxs::cli
