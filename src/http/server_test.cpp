#include "http/server.h"

#include "http/test_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <random>
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

TEST(Server, AnswersAClientThatOnlyClosedItsSendingSide) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send(get("/1") + get("/2"));
  client.half_close();

  const std::string answers = client.read_to_end();
  EXPECT_THAT(answers, HasSubstr("GET /1 "));
  EXPECT_THAT(answers, HasSubstr("GET /2 "));
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

TEST(Server, SpeaksHttp10) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().target != "/stream") co_return co_await echo(exchange);
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("one ");
    (void)co_await exchange.write("two");
    (void)co_await exchange.finish();
  }};

  RawClient plain{server.address()};
  plain.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_THAT(plain.read_to_end(), HasSubstr("\r\nconnection: close\r\n"));

  RawClient stream{server.address()};
  stream.send("GET /stream HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
  const std::string answer = stream.read_to_end();
  EXPECT_THAT(answer, Not(HasSubstr("transfer-encoding")));
  EXPECT_EQ(body_of(answer), "one two");
  EXPECT_FALSE(stream.reset());

  RawClient kept{server.address()};
  for (int i = 0; i < 2; ++i) {
    kept.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    EXPECT_THAT(kept.read_answer(), HasSubstr("\r\nconnection: keep-alive\r\n"));
  }
}

TEST(Server, ClosesWhenAsked) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + get("/ignored"));

  const std::string answers = client.read_to_end();
  EXPECT_THAT(answers, HasSubstr("connection: close"));
  EXPECT_THAT(answers, Not(HasSubstr("ignored")));
  EXPECT_FALSE(client.reset());
}

TEST(Server, AnswersHeadWithoutABody) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().target == "/whole") co_return co_await echo(exchange);
    (void)co_await exchange.start_stream(200, {});
    (void)co_await exchange.write("unsent");
    (void)co_await exchange.finish();
  }};
  RawClient client{server.address()};

  client.send("HEAD /whole HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("content-length: 12\r\n"));
  client.send("HEAD /stream HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("transfer-encoding: chunked\r\n"));
  client.send(get("/whole"));
  EXPECT_EQ(body_of(client.read_answer()), "GET /whole ");
}

TEST(Server, SendsNoLengthWhereThereIsNoBody) {
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
    Response empty{.status = 204};
    (void)co_await exchange.send(std::move(empty));
  }};
  RawClient client{server.address()};

  client.send(get("/"));

  EXPECT_THAT(client.read_until("\r\n\r\n"), Not(HasSubstr("content-length")));
}

TEST(Server, ReadsAChunkedBody) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
  client.send("3\r\nabc\r\n");
  client.send("4;x=y\r\nde");
  client.send("fg\r\n0\r\n\r\n" + get("/next"));

  EXPECT_EQ(body_of(client.read_answer()), "POST / abcdefg");
  EXPECT_EQ(body_of(client.read_answer()), "GET /next ");
}

TEST(Server, InvitesABodyThatWaitsToBeAsked) {
  TestServer server{echo, {.body_bytes_max = 100}};
  const auto head = [](int length) {
    return "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: " +
           std::to_string(length) + "\r\n\r\n";
  };

  RawClient client{server.address()};
  client.send(head(4));
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  EXPECT_EQ(body_of(client.read_answer()), "POST / body");

  RawClient large{server.address()};
  large.send(head(101));
  EXPECT_EQ(status_of(large.read_to_end()), 413);

  RawClient odd{server.address()};
  odd.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: miracles\r\ncontent-length: 1\r\n\r\n");
  EXPECT_EQ(status_of(odd.read_to_end()), 417);
}

TEST(Server, SkipsEmptyLinesBeforeARequest) {
  TestServer server{echo};
  RawClient client{server.address()};

  client.send("\r\n\r");
  client.send("\n" + get("/a"));

  EXPECT_EQ(body_of(client.read_answer()), "GET /a ");
}

TEST(Server, AnswersWhatIsNotHttpWith400AndCloses) {
  TestServer server{echo};

  for (const char* bytes :
       {"\x16\x03\x01\x02",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"}) {
    RawClient client{server.address()};
    client.send(bytes);
    const std::string answer = client.read_to_end();
    EXPECT_EQ(status_of(answer), 400) << bytes;
    EXPECT_THAT(answer, HasSubstr("connection: close"));
  }
}

TEST(Server, SurvivesGarbage) {
  TestServer server{echo, {.idle = Milliseconds{1'000}}};
  const std::string seed =
      "POST /v1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
      "5;a=b\r\nhello\r\n0\r\nt: u\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\nxy";
  std::mt19937 random{20261123};
  const auto below = [&](std::size_t n) { return random() % n; };

  for (int round = 0; round < 10'000; ++round) {
    std::string bytes = seed;
    for (std::size_t n = below(6); n > 0; --n) {
      const std::size_t at = below(bytes.size());
      switch (below(4)) {
        case 0:
          bytes[at] = static_cast<char>(below(256));
          break;
        case 1:
          bytes.insert(at, 1, "\r\n :;\t0"[below(7)]);
          break;
        case 2:
          bytes.erase(at, 1 + below(8));
          break;
        default:
          bytes.insert(at, bytes.substr(below(bytes.size()), below(40)));
      }
    }
    RawClient client{server.address()};
    client.send(bytes);
    client.half_close();
    client.read_to_end();
  }

  RawClient client{server.address()};
  client.send(get("/alive"));
  EXPECT_EQ(body_of(client.read_answer()), "GET /alive ");
}

TEST(Server, ServesUnixSockets) {
  const auto path =
      std::filesystem::temp_directory_path() / ("mlxs_server_" + std::to_string(::getpid()));
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
                      co_await reply(exchange, exchange.request().peer);
                    },
                    {},
                    {.kind = Address::Kind::kUnix, .path = path.string()}};
  RawClient client{server.address()};

  client.send(get("/"));

  EXPECT_EQ(body_of(client.read_answer()), "unix");
  std::filesystem::remove(path);
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

// A loop that ends with connections open frees everything; the address sanitizer looks on.
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
