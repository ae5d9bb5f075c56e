#include "http/server.h"

#include "http/test_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;
using testing::Not;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

/// Answers with method, target and body.
asio::awaitable<void> echo(Exchange& exchange) {
  Response response;
  response.body =
      exchange.request().method + ' ' + exchange.request().target + ' ' + exchange.request().body;
  (void)co_await exchange.send(std::move(response));
}

std::string get(std::string_view target) {
  return "GET " + std::string{target} + " HTTP/1.1\r\nhost: x\r\n\r\n";
}

std::string post(std::string_view body) {
  return "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string{body};
}

TEST(Server, AnswersWithLengthAndDate) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send(get("/a?b=c"));
  const std::string answer = client.read_answer();

  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\ndate: "));
  EXPECT_THAT(answer, Not(HasSubstr("connection:")));
  EXPECT_EQ(body_of(answer), "GET /a?b=c ");
}

TEST(Server, KeepsOneConnectionThroughTenThousandRequests) {
  TestServer server{echo};
  RawClient client{server.address()};

  for (int i = 0; i < 10'000; ++i) {
    client.send(post(std::to_string(i)));
    ASSERT_EQ(body_of(client.read_answer()), "POST / " + std::to_string(i));
  }

  EXPECT_EQ(server.stats().requests, 10'000U);
  EXPECT_EQ(server.stats().connections_accepted, 1U);
}

TEST(Server, AnswersPipelinedRequestsInOrder) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send(get("/1") + post("two") + get("/3"));

  EXPECT_EQ(body_of(client.read_answer()), "GET /1 ");
  EXPECT_EQ(body_of(client.read_answer()), "POST / two");
  EXPECT_EQ(body_of(client.read_answer()), "GET /3 ");
}

TEST(Server, ServesTwoHundredConnectionsAtOnce) {
  TestServer server{echo};
  std::deque<RawClient> clients;

  for (int i = 0; i < 200; ++i) clients.emplace_back(server.address());
  for (auto& client : clients) client.send(get("/"));

  for (auto& client : clients) EXPECT_EQ(status_of(client.read_answer()), 200);
  EXPECT_EQ(server.stats().connections_open, 200U);
}

TEST(Server, StreamsChunksAndGoesOnWithTheNextRequest) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("hello");
    (void)co_await exchange.write("");
    (void)co_await exchange.write("0123456789abcdef");
    (void)co_await exchange.finish();
  }};
  RawClient client{server.address()};

  for (int i = 0; i < 2; ++i) {
    client.send(get("/"));
    EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("transfer-encoding: chunked\r\n"));
    EXPECT_EQ(client.read_until("0\r\n\r\n"), "5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
  }
}

TEST(Server, TellsAWaitingHandlerThatTheClientLeft) {
  std::promise<bool> told;
  TestServer server{[&](Exchange& exchange) -> asio::awaitable<void> {
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("first");
    asio::steady_timer forever{co_await asio::this_coro::executor, std::chrono::hours{1}};
    exchange.on_client_gone([&] { forever.cancel(); });
    co_await forever.async_wait(kAwait);
    told.set_value(exchange.client_gone());
  }};
  RawClient client{server.address()};
  client.send(get("/"));
  client.read_until("first");

  client.close();

  EXPECT_TRUE(told.get_future().get());
}

}  // namespace
}  // namespace mlxs::http
