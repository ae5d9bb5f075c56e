#include "http/client.h"

#include "http/test_server.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <utility>

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

Deadline soon() { return Deadline::after(Milliseconds{10'000}); }

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
    ASSERT_TRUE(run(loop, connection.read_all(100'000, soon())));
    EXPECT_TRUE(connection.reusable());
  }

  EXPECT_EQ(server.stats().connections_accepted, 1U);
}

}  // namespace
}  // namespace mlxs::http
