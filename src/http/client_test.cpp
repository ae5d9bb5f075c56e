#include "http/client.h"

#include "http/test_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;

/// Runs one coroutine to its end on a loop of its own.
template <class T>
T run(asio::io_context& loop, asio::awaitable<T> work) {
  auto future = asio::co_spawn(loop, std::move(work), asio::use_future);
  while (future.wait_for(Milliseconds{0}) != std::future_status::ready) {
    loop.restart();
    loop.run_one();
  }
  return future.get();
}

Deadline soon() { return Deadline::after(Milliseconds{60'000}); }

asio::awaitable<void> echo(Exchange& exchange) {
  Response response;
  response.body = exchange.request().method + ' ' + exchange.request().body;
  (void)co_await exchange.send(std::move(response));
}

asio::awaitable<void> stream_numbers(Exchange& exchange) {
  (void)co_await exchange.start_stream(200, {});
  for (int i = 0; i < 1000; ++i) (void)co_await exchange.write(std::to_string(i) + ',');
  (void)co_await exchange.finish();
}

TEST(Client, FetchesOverTcp) {
  TestServer server{echo};
  asio::io_context loop;

  const auto answer =
      run(loop, fetch(server.address(), {.method = "POST", .body = "hi"}, 100, soon()));

  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, "POST hi");
}

TEST(Client, ReadsAChunkedBody) {
  TestServer server{stream_numbers};
  asio::io_context loop;

  const auto answer = run(loop, fetch(server.address(), {}, 100'000, soon()));

  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_TRUE(answer->body.starts_with("0,1,2,"));
  EXPECT_TRUE(answer->body.ends_with(",998,999,"));
}

TEST(Client, IsReusableOnceTheBodyIsRead) {
  TestServer server{stream_numbers};
  asio::io_context loop;
  ClientConnection connection{loop.get_executor(), server.address()};
  ASSERT_TRUE(run(loop, connection.connect(soon())));
  const Request request;

  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(run(loop, connection.send(request, soon())));
    EXPECT_FALSE(connection.reusable());
    EXPECT_FALSE(run(loop, connection.send(request, soon()))) << "would read the other's answer";
    ASSERT_TRUE(run(loop, connection.read_all(100'000, soon())));
    EXPECT_TRUE(connection.reusable());
  }

  EXPECT_EQ(server.stats().connections_accepted, 1U);
}

/// Accepts one connection, reads a head, sends `pieces` one by one and closes.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::vector<std::string> pieces, Address at = {.host = "127.0.0.1"})
      : listener_(*listen_on(at)), address_(*local_address(listener_)) {
    thread_ = std::thread{[this, pieces = std::move(pieces)] { serve(pieces); }};
  }
  ~ScriptedServer() {
    thread_.join();
    ::close(listener_);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;
  [[nodiscard]] const Address& address() const { return address_; }

 private:
  void serve(const std::vector<std::string>& pieces) const {
    pollfd entry{listener_, POLLIN, 0};
    if (::poll(&entry, 1, 60'000) != 1) return;
    const int fd = ::accept(listener_, nullptr, nullptr);
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    std::string request;
    std::array<char, 4096> buffer{};
    while (request.find("\r\n\r\n") == std::string::npos) {
      const auto got = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      request.append(buffer.data(), static_cast<std::size_t>(got));
    }
    for (const std::string& piece : pieces) send_all(fd, piece);
    ::close(fd);
  }

  int listener_;
  Address address_;
  std::thread thread_;
};

/// What a client makes of an answer sent in `pieces`.
Result<Response> fetch_scripted(std::vector<std::string> pieces, std::size_t bytes_max = 1000) {
  ScriptedServer server{std::move(pieces)};
  asio::io_context loop;
  return run(loop, fetch(server.address(), {}, bytes_max, soon()));
}

ErrorCode code_of(const Result<Response>& result) {
  return result ? ErrorCode::kInternal : result.error().code;
}

TEST(Client, ReadsABodyDelimitedByTheClose) {
  const auto answer = fetch_scripted({"HTTP/1.1 200 OK\r\n\r\n", "one ", "two"});

  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "one two");
}

TEST(Client, ReadsAnAnswerThatComesInSingleBytes) {
  std::vector<std::string> pieces;
  for (const char c :
       std::string{"HTTP/1.1 201 Created\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n"
                   "3\r\nabc\r\n1;x\r\nd\r\n0\r\nt: u\r\n\r\n"}) {
    pieces.emplace_back(1, c);
  }

  const auto answer = fetch_scripted(pieces);

  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->headers.get("a"), "b");
  EXPECT_EQ(answer->body, "abcd");
}

TEST(Client, SkipsInterimAnswers) {
  const auto answer =
      fetch_scripted({"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
                      "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"});

  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "ok");
}

TEST(Client, ReportsAPeerThatClosesEarlyAsLost) {
  EXPECT_EQ(code_of(fetch_scripted({})), ErrorCode::kWorkerLost);
  EXPECT_EQ(code_of(fetch_scripted({"HTTP/1.1 200 O"})), ErrorCode::kWorkerLost);
  EXPECT_EQ(code_of(fetch_scripted({"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"})),
            ErrorCode::kWorkerLost);
  EXPECT_EQ(code_of(fetch_scripted(
                {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"})),
            ErrorCode::kWorkerLost);
}

TEST(Client, ReportsWhatIsNotHttpAsAProtocolError) {
  EXPECT_EQ(code_of(fetch_scripted({"SSH-2.0-x\r\n\r\n"})), ErrorCode::kWorkerProtocol);
  EXPECT_EQ(
      code_of(fetch_scripted({"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"})),
      ErrorCode::kWorkerProtocol);
}

TEST(Client, BoundsHeadAndBody) {
  const std::string field = "a: " + std::string(1000, 'x') + "\r\n";
  std::string head = "HTTP/1.1 200 OK\r\n";
  while (head.size() <= ClientConnection::kHeadBytesMax) head += field;

  EXPECT_EQ(code_of(fetch_scripted({head + "\r\n"})), ErrorCode::kWorkerProtocol);
  EXPECT_EQ(code_of(fetch_scripted({head})), ErrorCode::kWorkerProtocol);
  EXPECT_EQ(code_of(fetch_scripted({"HTTP/1.1 200 OK\r\n\r\n" + std::string(1001, 'x')})),
            ErrorCode::kWorkerProtocol);
  EXPECT_TRUE(fetch_scripted({"HTTP/1.1 200 OK\r\n\r\n" + std::string(1000, 'x')}));
}

TEST(Client, ReadsNoBodyAfterHead) {
  TestServer server{echo};
  asio::io_context loop;

  const auto answer = run(loop, fetch(server.address(), {.method = "HEAD"}, 100, soon()));

  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "");
  EXPECT_EQ(answer->headers.get("content-length"), "5");
}

Address unix_address(const std::string& name) {
  const auto path =
      std::filesystem::temp_directory_path() / ("mlxs_" + std::to_string(::getpid()) + "_" + name);
  return {.kind = Address::Kind::kUnix, .path = path.string()};
}

TEST(Client, SpeaksOverUnixSockets) {
  TestServer server{echo, {}, unix_address("client")};
  asio::io_context loop;

  const auto answer = run(loop, fetch(server.address(), {}, 100, soon()));

  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->body, "GET ");
  std::filesystem::remove(server.address().path);
}

TEST(Client, ResolvesNames) {
  TestServer server{echo};
  asio::io_context loop;
  Address address = server.address();
  address.host = "localhost";

  const auto answer = run(loop, fetch(address, {}, 100, soon()));

  EXPECT_TRUE(answer) << answer.error().message;
}

TEST(Client, SaysWhyItCannotConnect) {
  asio::io_context loop;
  Address closed{.host = "127.0.0.1"};
  const int listener = *listen_on(closed);
  closed = *local_address(listener);
  ::close(listener);

  for (const Address& address :
       {closed,
        unix_address("nobody"),
        Address{.host = "no..name", .port = 1},
        Address{.kind = Address::Kind::kUnix, .path = "/" + std::string(300, 'x')}}) {
    const auto answer = run(loop, fetch(address, {}, 100, soon()));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kIo);
    EXPECT_THAT(answer.error().message, HasSubstr(address.to_string()));
  }
}

// Linux refuses instead of queueing; the client must ask again, and give up in time.
TEST(Client, WaitsForAFullUnixBacklog) {
  const Address address = unix_address("backlog");
  const int listener = *listen_on(address, 0);
  asio::io_context loop;
  ClientConnection first{loop.get_executor(), address};
  ASSERT_TRUE(run(loop, first.connect(soon())));

  ClientConnection second{loop.get_executor(), address};
  const auto late = run(loop, second.connect(Deadline::after(Milliseconds{30})));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadlineExceeded);

  ClientConnection third{loop.get_executor(), address};
  auto connecting = asio::co_spawn(loop, third.connect(soon()), asio::use_future);
  loop.restart();
  while (loop.poll_one() > 0) {
  }
  ::close(::accept(listener, nullptr, nullptr));
  while (connecting.wait_for(Milliseconds{0}) != std::future_status::ready) loop.run_one();
  EXPECT_TRUE(connecting.get());
  ::close(listener);
  std::filesystem::remove(address.path);
}

asio::awaitable<void> never_answer(Exchange& exchange) {
  asio::steady_timer forever{co_await asio::this_coro::executor, std::chrono::hours{1}};
  exchange.on_client_gone([&] { forever.cancel(); });
  co_await forever.async_wait(asio::as_tuple(asio::use_awaitable));
}

TEST(Client, GivesUpAtTheDeadline) {
  TestServer server{never_answer};
  asio::io_context loop;

  const auto answer =
      run(loop, fetch(server.address(), {}, 100, Deadline::after(Milliseconds{50})));

  EXPECT_EQ(code_of(answer), ErrorCode::kDeadlineExceeded);
}

TEST(Client, ClosingEndsWhateverWaitsAndTellsTheServer) {
  TestServer server{never_answer};
  asio::io_context loop;
  ClientConnection connection{loop.get_executor(), server.address()};
  ASSERT_TRUE(run(loop, connection.connect(soon())));
  const Request request;

  auto answer = asio::co_spawn(loop, connection.send(request, soon()), asio::use_future);
  loop.restart();
  while (!server.on_loop([](Server& s) { return s.active() == 1; })) loop.poll();
  connection.close();
  loop.run();

  EXPECT_EQ(answer.get().error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(server.eventually([](Server& s) { return s.active() == 0; }));
  EXPECT_EQ(run(loop, connection.connect(soon())).error().code, ErrorCode::kCancelled);
}

TEST(Client, MayBeDestroyedWhileItWaits) {
  TestServer server{never_answer};
  asio::io_context loop;
  auto connection = std::make_unique<ClientConnection>(loop.get_executor(), server.address());
  ASSERT_TRUE(run(loop, connection->connect(soon())));
  const Request request;
  auto answer = asio::co_spawn(loop, connection->send(request, soon()), asio::use_future);
  loop.restart();
  while (!server.on_loop([](Server& s) { return s.active() == 1; })) loop.poll();

  connection.reset();
  loop.run();

  EXPECT_EQ(answer.get().error().code, ErrorCode::kCancelled);
}

TEST(Client, MayBeForgottenWithItsLoop) {
  TestServer server{never_answer};
  asio::io_context loop;
  asio::co_spawn(loop, fetch(server.address(), {}, 100, soon()), asio::detached);
  while (!server.on_loop([](Server& s) { return s.active() == 1; })) loop.poll();
}

// What a pool asks before it hands a connection out again.
TEST(Client, IsNotReusableOnceThePeerHasClosed) {
  TestServer server{echo};
  asio::io_context loop;
  ClientConnection connection{loop.get_executor(), server.address()};
  EXPECT_FALSE(connection.reusable());
  ASSERT_TRUE(run(loop, connection.connect(soon())));
  const Request request;
  ASSERT_TRUE(run(loop, connection.send(request, soon())));
  ASSERT_TRUE(run(loop, connection.read_all(100, soon())));
  EXPECT_TRUE(connection.reusable());

  server.on_loop([](Server& s) { s.drain(); });
  ASSERT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 0; }));

  EXPECT_FALSE(connection.reusable());
  EXPECT_FALSE(run(loop, connection.send(request, soon())));
}

TEST(Client, IsNotReusableAfterConnectionClose) {
  TestServer server{echo};
  asio::io_context loop;
  ClientConnection connection{loop.get_executor(), server.address()};
  ASSERT_TRUE(run(loop, connection.connect(soon())));
  Request request;
  request.headers.add("connection", "close");
  ASSERT_TRUE(run(loop, connection.send(request, soon())));
  ASSERT_TRUE(run(loop, connection.read_all(100, soon())));

  EXPECT_FALSE(connection.reusable());
}

// With and without a server that reads the rest: in the latter case the write fails first.
TEST(Client, ReadsTheAnswerToABodyThatIsRefusedWhileItIsSent) {
  for (const std::size_t linger_bytes : {std::size_t{1}, std::size_t{64 * 1024 * 1024}}) {
    TestServer server{echo, {.body_bytes_max = 1000, .linger_bytes = linger_bytes}};
    asio::io_context loop;
    const Request request{.method = "POST", .body = std::string(20'000'000, 'x')};

    const auto answer = run(loop, fetch(server.address(), request, 1000, soon()));

    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status, 413);
  }
}

}  // namespace
}  // namespace mlxs::http
