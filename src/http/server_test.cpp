#include "http/server.h"

#include "http/head.h"
#include "http/test_server.h"

#include <boost/asio/awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <deque>
#include <filesystem>
#include <random>
#include <string>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;
using testing::Not;

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

TEST(Server, SendsTheFirstBytesWithTheHeadAndTheLastOnesWithTheEnd) {
  Headers common;
  common.add("x-common", "c");
  common.add("connection", "ours to say");
  const std::string shared = render_fields(common);
  TestServer server{[&shared](Exchange& exchange) -> asio::awaitable<void> {
    StreamHead head;
    head.headers.add("x-own", "o");
    head.shared_fields = shared;
    const bool empty = exchange.request().target == "/empty";
    (void)co_await exchange.start_stream(std::move(head), empty ? "" : "first");
    (void)co_await exchange.finish(empty ? "" : "last, and done");
  }};
  RawClient client{server.address()};

  client.send(get("/"));
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("\r\nx-own: o\r\nx-common: c\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("ours to say")));
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "5\r\nfirst\r\ne\r\nlast, and done\r\n0\r\n\r\n");
  client.send(get("/empty"));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("chunked"));
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "0\r\n\r\n");
  client.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n" + get("/empty"));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("chunked"));
  EXPECT_THAT(client.read_until("\r\n\r\n"), testing::StartsWith("HTTP/1.1 200"));

  RawClient old{server.address()};
  old.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(body_of(old.read_to_end()), "firstlast, and done");
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

// A loop that ends with connections open frees everything; the address sanitizer looks on.
}  // namespace
}  // namespace mlxs::http
