// Every bound of `Limits`, exceeded over a real connection.
#include "http/server.h"
#include "http/test_server.h"

#include <boost/asio/awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace mlxs::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;
using testing::StartsWith;

asio::awaitable<void> count_body(Exchange& exchange) {
  const std::string size = std::to_string(exchange.request().body.size());
  co_await reply(exchange, size);
}

std::string get(std::string_view fields = {}) {
  return "GET / HTTP/1.1\r\nhost: x\r\n" + std::string{fields} + "\r\n";
}

/// Sends `bytes`, which are refused: the answer up to the close that follows it.
std::string refused(TestServer& server, std::string_view bytes) {
  RawClient client{server.address()};
  client.send(bytes);
  std::string answer = client.read_to_end();
  EXPECT_THAT(answer, HasSubstr("\r\nconnection: close\r\n"));
  EXPECT_FALSE(client.reset());
  return answer;
}

TEST(Limits, HeadBytesAreBounded) {
  TestServer server{count_body, {.head_bytes_max = 1000}};

  EXPECT_EQ(status_of(refused(server, get("a: " + std::string(1000, 'x') + "\r\n"))), 431);
  EXPECT_EQ(status_of(refused(server, "GET / HTTP/1.1\r\na: " + std::string(2000, 'x'))), 431);
}

TEST(Limits, HeadFieldsAreBounded) {
  TestServer server{count_body, {.head_fields_max = 3}};

  EXPECT_EQ(status_of(refused(server, get("a: 1\r\nb: 2\r\nc: 3\r\n"))), 431);
  EXPECT_EQ(server.stats().requests_rejected, 1U);
  EXPECT_EQ(server.stats().requests, 0U);
}

TEST(Limits, TargetIsBounded) {
  TestServer server{count_body, {.target_bytes_max = 100}};

  const std::string answer =
      refused(server, "GET /" + std::string(100, 'x') + " HTTP/1.1\r\nhost: x\r\n\r\n");

  EXPECT_EQ(status_of(answer), 414);
  EXPECT_THAT(body_of(answer), StartsWith("headers_too_large"));
}

TEST(Limits, DeclaredLengthIsBoundedBeforeTheBodyIsSent) {
  TestServer server{count_body, {.body_bytes_max = 1000}};

  const std::string answer =
      refused(server, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n");

  EXPECT_EQ(status_of(answer), 413);
  EXPECT_THAT(body_of(answer), StartsWith("request_too_large"));
}

TEST(Limits, ChunkedBodyIsBoundedByWhatComes) {
  TestServer server{count_body, {.body_bytes_max = 1000}};
  const std::string chunk = "1f4\r\n" + std::string(500, 'x') + "\r\n";  // 500 bytes.
  const std::string head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";

  EXPECT_EQ(status_of(refused(server, head + chunk + chunk + chunk)), 413);

  RawClient client{server.address()};
  client.send(head + chunk + chunk + "0\r\n\r\n");
  EXPECT_EQ(body_of(client.read_answer()), "1000");
}

TEST(Limits, AnEndlessChunkHeaderIsBounded) {
  TestServer server{count_body};

  const std::string answer =
      refused(server,
              "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;" +
                  std::string(100'000, 'x'));

  EXPECT_EQ(status_of(answer), 431);
}

// The client writes everything before it reads anything, as most do.
TEST(Limits, ABodyOfTwentyMegabytesGetsAReadableAnswer) {
  TestServer server{count_body};
  RawClient client{server.address()};

  EXPECT_TRUE(client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n"));
  EXPECT_TRUE(client.send(std::string(20'000'000, 'x')));
  client.half_close();

  EXPECT_EQ(status_of(client.read_to_end()), 413);
  EXPECT_FALSE(client.reset());
}

TEST(Limits, LingeringEndsAtItsBytes) {
  TestServer server{count_body, {.linger_bytes = 100'000}};
  RawClient client{server.address()};
  client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000000\r\n\r\n");

  EXPECT_FALSE(client.send(std::string(200'000'000, 'x')));
}

TEST(Limits, LingeringEndsAtItsTime) {
  TestServer server{count_body, {.linger = Milliseconds{50}}};
  RawClient client{server.address()};

  client.send("NOISE\r\n\r\n");
  client.read_answer();

  EXPECT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 0; }));
}

TEST(Limits, ASlowHeadIsTimedOutWhileOthersAreServed) {
  TestServer server{count_body, {.head_read = Milliseconds{100}}};
  RawClient slow{server.address()};
  RawClient other{server.address()};

  slow.send("GET / HTTP/1.1\r\nx-slow: ");
  std::future<std::string> answer =
      std::async(std::launch::async, [&] { return slow.read_to_end(); });
  do {
    other.send(get());
    ASSERT_EQ(status_of(other.read_answer()), 200);
  } while (answer.wait_for(Milliseconds{0}) != std::future_status::ready);

  const std::string text = answer.get();
  EXPECT_EQ(status_of(text), 408);
  EXPECT_THAT(text, HasSubstr("connection: close"));
}

// One byte at a time moves no deadline.
TEST(Limits, ADrippingHeadIsTimedOutAsAWhole) {
  TestServer server{count_body, {.head_read = Milliseconds{100}}};
  RawClient client{server.address()};

  client.send("GET / HTTP/1.1\r\nx: ");
  std::future<std::string> answer =
      std::async(std::launch::async, [&] { return client.read_to_end(); });
  while (answer.wait_for(Milliseconds{10}) != std::future_status::ready) client.send("x");

  // If each byte moved it, the head would grow to its bound: 431.
  EXPECT_EQ(status_of(answer.get()), 408);
}

TEST(Limits, APartOfTheNextRequestIsTimedOutToo) {
  TestServer server{count_body, {.head_read = Milliseconds{100}}};
  RawClient client{server.address()};

  client.send(get() + "GET / HT");

  EXPECT_EQ(status_of(client.read_answer()), 200);
  EXPECT_EQ(status_of(client.read_to_end()), 408);
}

TEST(Limits, AStalledBodyIsTimedOut) {
  TestServer server{count_body, {.body_stall = Milliseconds{100}}};

  const std::string head = "POST / HTTP/1.1\r\nhost: x\r\n";
  EXPECT_EQ(status_of(refused(server, head + "content-length: 10\r\n\r\n12345")), 408);
  EXPECT_EQ(status_of(refused(server, head + "transfer-encoding: chunked\r\n\r\n5\r\n12")), 408);
}

TEST(Limits, ADrippingBodyIsTimedOut) {  // Below 1 KiB a second, though never silent for long.
  TestServer server{count_body, {.body_stall = Milliseconds{200}}};
  RawClient client{server.address()};

  client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n");
  std::future<std::string> answer =
      std::async(std::launch::async, [&] { return client.read_to_end(); });
  while (answer.wait_for(Milliseconds{10}) != std::future_status::ready) client.send("x");

  EXPECT_EQ(status_of(answer.get()), 408);
}

/// Sends a body piece by piece over six windows; whether all of it was taken. Nothing if this
/// process stood still for a window between two pieces, so that the server may have given up.
std::optional<bool> takes_a_slow_body(const Address& server, Milliseconds window) {
  RawClient client{server};
  std::size_t sent = 0;
  Clock::duration longest{0};
  client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
  const TimePoint begin = Clock::now();
  for (TimePoint last = begin; last - begin < 6 * window;) {
    client.send("400\r\n" + std::string(1024, 'x') + "\r\n");
    sent += 1024;
    const TimePoint now = Clock::now();
    longest = std::max(longest, now - std::exchange(last, now));
    std::this_thread::sleep_for(Milliseconds{5});  // The pace is what is tested.
  }
  client.send("0\r\n\r\n");
  const std::string answer = client.read_answer();
  if (longest >= window) return std::nullopt;
  return body_of(answer) == std::to_string(sent);
}

TEST(Limits, ABodyWithProgressOutlivesManyWindows) {
  constexpr Milliseconds kWindow{50};
  TestServer server{count_body, {.body_stall = kWindow}};

  std::optional<bool> taken;
  while (!taken) taken = takes_a_slow_body(server.address(), kWindow);

  EXPECT_TRUE(*taken);
}

TEST(Limits, AnIdleConnectionIsClosedWithoutAWord) {
  TestServer server{count_body, {.idle = Milliseconds{50}}};
  RawClient fresh{server.address()};
  std::optional<RawClient> used;
  std::string answer;
  while (answer.empty()) {  // Again if this process stood still for too long to ask.
    used.emplace(server.address());
    used->send(get());
    answer = used->read_answer();
  }

  EXPECT_EQ(fresh.read_to_end(), "");
  EXPECT_EQ(used->read_to_end(), "");
  EXPECT_FALSE(used->reset());
}

struct Stalled {
  ErrorCode code;
  std::uint64_t bytes_taken;
};

/// Streams to a client that reads nothing, until the server gives it up.
Stalled stream_to_stalled_reader(std::size_t send_buffer_bytes) {
  std::promise<Stalled> ended;
  TestServer server{[&](Exchange& exchange) -> asio::awaitable<void> {
                      (void)co_await exchange.start_stream(200, {});
                      const std::string frame(10'000, 'x');
                      Result<void> written;
                      while (written) written = co_await exchange.write(frame);
                      ended.set_value({written.error().code, exchange.bytes_sent()});
                    },
                    {.write_stall = Milliseconds{100}, .send_buffer_bytes = send_buffer_bytes}};
  RawClient client{server.address(), 4096};

  client.send(get());
  const Stalled result = ended.get_future().get();
  EXPECT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 0; }));
  return result;
}

// R-STR-2. The writer waits instead of queueing: what is in flight stays in the kernel's buffers,
// whose size is bounded, too.
TEST(Limits, AReaderWithoutProgressIsDropped) {
  const Stalled small = stream_to_stalled_reader(16 * 1024);
  const Stalled large = stream_to_stalled_reader(128 * 1024);

  EXPECT_EQ(small.code, ErrorCode::kRequestTimeout);
  EXPECT_LT(small.bytes_taken, 100'000U);
  EXPECT_LT(small.bytes_taken, large.bytes_taken);
  EXPECT_LT(large.bytes_taken, 1'000'000U);
}

TEST(Limits, ASlowReaderWithProgressGetsEverything) {
  constexpr std::size_t kBytes = 2'000'000;
  TestServer server{[](Exchange& exchange) -> asio::awaitable<void> {
                      co_await reply(exchange, std::string(kBytes, 'x'));
                    },
                    {.write_stall = Milliseconds{30'000}}};
  RawClient client{server.address(), 4096};

  client.send(get());

  EXPECT_EQ(body_of(client.read_answer()).size(), kBytes);
}

TEST(Limits, ConnectionsAreBounded) {
  TestServer server{count_body, {.connections_max = 2}};
  std::optional<RawClient> first{server.address()};
  RawClient second{server.address()};
  for (RawClient* client : {&*first, &second}) {
    client->send(get());
    EXPECT_EQ(status_of(client->read_answer()), 200);
  }

  EXPECT_EQ(status_of(refused(server, get())), 503);
  EXPECT_EQ(server.stats().connections_refused, 1U);

  first.reset();
  ASSERT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 1; }));
  RawClient third{server.address()};
  third.send(get());
  EXPECT_EQ(status_of(third.read_answer()), 200);
}

TEST(Limits, RefusalsAreBoundedToo) {
  TestServer server{count_body, {.connections_max = 0, .linger = Milliseconds{60'000}}};
  std::deque<RawClient> clients;

  for (int i = 0; i < 200; ++i) clients.emplace_back(server.address());

  int told = 0;
  for (auto& client : clients) told += status_of(client.read_answer()) == 503;
  EXPECT_GE(told, 64);
  EXPECT_LT(told, 200);
}

/// An address of this machine that is not loopback.
std::optional<std::string> outside_address() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return std::nullopt;
  std::optional<std::string> found;
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET) continue;
    const in_addr& v4 = reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
    if ((ntohl(v4.s_addr) >> 24) == 127) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    found = ::inet_ntop(AF_INET, &v4, text.data(), text.size());
  }
  ::freeifaddrs(all);
  return found;
}

TEST(Limits, ConnectionsOfOneAddressAreBoundedOutsideLoopback) {
  const auto outside = outside_address();
  if (!outside) GTEST_SKIP() << "this machine has loopback only";
  TestServer server{count_body, {.connections_per_address_max = 1}, {.host = "0.0.0.0"}};
  Address address = server.address();
  const auto status = [&](RawClient& client) {
    client.send(get());
    return status_of(client.read_answer());
  };

  address.host = *outside;
  RawClient first{address};
  RawClient second{address};
  EXPECT_EQ(status(first), 200);
  EXPECT_EQ(status(second), 503);

  address.host = "127.0.0.1";
  RawClient third{address};
  RawClient fourth{address};
  EXPECT_EQ(status(third), 200);
  EXPECT_EQ(status(fourth), 200);
}

TEST(Limits, OutOfDescriptorsConnectionsWaitAndAreServedLater) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer opens a pipe to look at an object, and reports those it can't see";
#endif
  TestServer server{count_body};
  std::deque<RawClient> clients;
  for (int i = 0; i < 3; ++i) clients.emplace_back(server.address());
  ASSERT_TRUE(server.eventually([](Server& s) { return s.stats().connections_open == 3; }));
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);

  const int lowest_free = ::dup(0);
  ::close(lowest_free);
  // The client's own socket takes the last descriptor, so that accept finds none.
  const rlimit none{static_cast<rlim_t>(lowest_free) + 1, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  RawClient client{server.address()};
  client.send(get());
  std::future<std::string> answer =
      std::async(std::launch::async, [&] { return client.read_answer(); });
  EXPECT_EQ(answer.wait_for(Milliseconds{100}), std::future_status::timeout);
  ::setrlimit(RLIMIT_NOFILE, &before);

  EXPECT_EQ(status_of(answer.get()), 200);
}

TEST(Limits, NewOnesHoldForNewConnections) {
  TestServer server{count_body};
  RawClient old{server.address()};
  old.send(get());
  old.read_answer();

  server.on_loop([](Server& s) { s.set_limits({.body_bytes_max = 1}); });

  const std::string request = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";
  EXPECT_EQ(status_of(refused(server, request)), 413);
  old.send(request);
  EXPECT_EQ(status_of(old.read_answer()), 200);
}

}  // namespace
}  // namespace mlxs::http
