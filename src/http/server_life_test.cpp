// What becomes of a request whose client, handler or server ends before it.
#include "http/server.h"
#include "http/test_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>

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

TEST(Server, CallsBackLateWhenTheClientHadLeftBefore) {
  std::promise<bool> told;
  TestServer server{[&](Exchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer timer{co_await asio::this_coro::executor};
    while (!exchange.client_gone()) {
      timer.expires_after(Milliseconds{1});
      co_await timer.async_wait(kAwait);
    }
    timer.expires_after(std::chrono::hours{1});
    exchange.on_client_gone([&] { timer.cancel(); });
    co_await timer.async_wait(kAwait);
    told.set_value((co_await exchange.start_stream(200, {})).has_value() &&
                   (co_await exchange.write("x")).has_value());
  }};
  RawClient client{server.address()};

  client.send(get("/"));
  client.abort();

  EXPECT_FALSE(told.get_future().get()) << "writing to a client that left must fail";
}

TEST(Server, ForgetsACallbackThatWasReplacedRemovedOrOutlived) {
  std::atomic<int> calls = 0;
  std::promise<void> done;
  TestServer server{[&](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().target == "/short") {
      exchange.on_client_gone([&] { calls += 1000; });
      co_await reply(exchange, "");
      co_return;
    }
    asio::steady_timer forever{co_await asio::this_coro::executor, std::chrono::hours{1}};
    exchange.on_client_gone([&] { calls += 100; });
    exchange.on_client_gone({});
    exchange.on_client_gone([&] { calls += 10; });
    exchange.on_client_gone([&] {
      ++calls;
      forever.cancel();
    });
    co_await forever.async_wait(kAwait);
    done.set_value();
  }};
  RawClient client{server.address()};
  client.send(get("/short"));
  client.read_answer();
  client.send(get("/long"));
  RawClient other{server.address()};
  ASSERT_TRUE(server.eventually([](Server& s) { return s.active() == 1; }));

  client.close();

  done.get_future().get();
  EXPECT_TRUE(server.eventually([](Server& s) { return s.active() == 0; }));
  EXPECT_EQ(calls, 1);
}

TEST(Server, ServesAPipelinedRequestBehindOneThatWatchesTheClient) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer timer{co_await asio::this_coro::executor, Milliseconds{20}};
    exchange.on_client_gone([&] { timer.cancel(); });
    co_await timer.async_wait(kAwait);
    co_await reply(exchange, exchange.client_gone() ? "gone" : "there");
  }};
  RawClient client{server.address()};

  client.send(get("/1") + get("/2"));

  EXPECT_EQ(body_of(client.read_answer()), "there");
  EXPECT_EQ(body_of(client.read_answer()), "there");
}

TEST(Server, AnswersAThrowingHandlerWith500AndGoesOn) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().target == "/throw") throw std::runtime_error{"boom"};
    if (exchange.request().target == "/odd") throw 7;
    if (exchange.request().target == "/nothing") co_return;
    co_await echo(exchange);
  }};
  RawClient client{server.address()};

  for (const char* target : {"/throw", "/odd", "/nothing"}) {
    client.send(get(target));
    const std::string answer = client.read_answer();
    EXPECT_EQ(status_of(answer), 500) << target;
    EXPECT_THAT(answer, Not(HasSubstr("boom")));
    client.send(get("/"));
    EXPECT_EQ(status_of(client.read_answer()), 200);
  }
}

TEST(Server, CutsAStreamThatItsHandlerLeavesUnfinished) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("half");
    if (exchange.request().target == "/throw") throw std::runtime_error{"boom"};
  }};

  for (const char* target : {"/return", "/throw"}) {
    RawClient client{server.address()};
    client.send(get(target));
    const std::string answer = client.read_to_end();
    EXPECT_THAT(answer, HasSubstr("4\r\nhalf\r\n"));
    EXPECT_THAT(answer, Not(HasSubstr("0\r\n\r\n")));
  }
  // Without chunks only a reset tells a cut body from a whole one.
  RawClient old{server.address()};
  old.send("GET / HTTP/1.0\r\n\r\n");
  old.read_to_end();
  EXPECT_TRUE(old.reset());
}

/// Streams "begin", waits until `release` is set, then ends the stream.
struct HeldStream {
  std::atomic<bool> release = false;
  asio::awaitable<void> operator()(Exchange& exchange) {
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("begin");
    asio::steady_timer timer{co_await asio::this_coro::executor};
    while (!release && !exchange.client_gone()) {
      timer.expires_after(Milliseconds{1});
      co_await timer.async_wait(kAwait);
    }
    (void)co_await exchange.write("end");
    (void)co_await exchange.finish();
  }
};

TEST(Server, DrainingLetsAStreamFinishAndTakesNoMore) {
  HeldStream held;
  TestServer server{std::ref(held)};
  RawClient idle{server.address()};
  RawClient streaming{server.address()};
  streaming.send(get("/"));
  streaming.read_until("begin\r\n");
  ASSERT_EQ(server.on_loop([](Server& s) { return s.active(); }), 1U);

  server.on_loop([](Server& s) { s.drain(); });

  EXPECT_EQ(idle.read_to_end(), "");
  RawClient late{server.address()};  // The kernel's backlog takes it, this server does not.
  held.release = true;
  EXPECT_EQ(streaming.read_to_end(), "3\r\nend\r\n0\r\n\r\n");
  EXPECT_TRUE(server.eventually([](Server& s) { return s.active() == 0; }));
  EXPECT_EQ(server.stats().connections_accepted, 2U);
}

TEST(Server, DrainingClosesAfterTheRequestUnderWay) {
  TestServer server{echo};
  RawClient client{server.address()};
  client.send("GET /half HTTP/1.1\r\n");
  ASSERT_TRUE(server.eventually([](Server& s) { return s.active() == 1; }));

  server.on_loop([](Server& s) { s.drain(); });
  client.send("host: x\r\n\r\n" + get("/next"));

  const std::string answer = client.read_to_end();
  EXPECT_THAT(answer, HasSubstr("connection: close"));
  EXPECT_EQ(body_of(answer), "GET /half ");
}

TEST(Server, StoppingClosesEverythingNow) {
  HeldStream held;
  TestServer server{std::ref(held)};
  RawClient idle{server.address()};
  RawClient streaming{server.address()};
  streaming.send(get("/"));
  streaming.read_until("begin\r\n");

  server.on_loop([](Server& s) { s.stop(); });

  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_EQ(streaming.read_to_end(), "");
  EXPECT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 0; }));
}

TEST(Server, CountsConnectionsAndRequests) {
  TestServer server{echo};
  {
    RawClient client{server.address()};
    for (int i = 0; i < 3; ++i) {
      client.send(get("/"));
      client.read_answer();
    }
    EXPECT_EQ(server.stats().connections_open, 1U);
    EXPECT_EQ(server.stats().requests, 3U);
  }

  EXPECT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 0; }));
  EXPECT_EQ(server.stats().connections_accepted, 1U);
}

TEST(Server, MayBeDestroyedInTheMiddleOfEverything) {
  const auto listener = listen_on({.host = "127.0.0.1"});
  const Address address = *local_address(*listener);
  asio::io_context loop;
  auto server = std::make_unique<Server>(
      loop,
      *listener,
      Limits{},
      [](Exchange& exchange) -> asio::awaitable<void> {
        asio::steady_timer forever{co_await asio::this_coro::executor, std::chrono::hours{1}};
        exchange.on_client_gone([&] { forever.cancel(); });
        co_await forever.async_wait(kAwait);
      },
      &render_plain);
  server->start();
  RawClient waiting{address};
  RawClient reading{address};
  RawClient idle{address};
  waiting.send(get("/"));
  reading.send("GET / HT");
  while (server->active() < 2 || server->stats().connections_open < 3) loop.run_one();

  server.reset();
  loop.poll();
  ::close(*listener);
}

}  // namespace
}  // namespace mlxs::http
