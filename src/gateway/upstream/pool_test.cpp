#include "gateway/upstream/pool.h"

#include "gateway/testing/test_gateway.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;
using namespace script;

/// A pool on a loop of the test's own thread, to a worker that answers "/v1/models".
class PoolTest : public testing::Test {
 protected:
  template <class T>
  T run(asio::awaitable<T> work) {
    auto future = asio::co_spawn(io, std::move(work), asio::use_future);
    io.restart();
    while (future.wait_for(Milliseconds{0}) != std::future_status::ready) io.run_one();
    return future.get();
  }
  // Connects if need be, and reads one whole answer.
  static asio::awaitable<bool> exchange(Lease& lease) {
    if (!lease.connected()) {
      auto connected = co_await lease.connection().connect(Deadline::after(TestGateway::kPatience));
      if (!connected) co_return false;
    }
    http::Request request;
    request.target = "/v1/models";
    auto head = co_await lease.connection().send(request, Deadline::after(TestGateway::kPatience));
    if (!head) co_return false;
    auto body = co_await lease.connection().read_all(1000, Deadline::after(TestGateway::kPatience));
    co_return body.has_value();
  }
  bool use_once() {
    auto lease = pool->try_lease(false);
    return lease && run(exchange(*lease));
  }
  void warm() {
    pool->warm_up();
    io.restart();
    while (pool->idle_count() < 2 && io.run_one() > 0) {
    }
  }

  MockWorker worker;
  asio::io_context io;
  telemetry::Gauge idle;
  telemetry::Gauge leased;
  std::shared_ptr<Pool> pool = std::make_shared<Pool>(io.get_executor(),
                                                      worker.address(),
                                                      PoolLimits{.connections_max = 3,
                                                                 .warm = 2,
                                                                 .idle = Milliseconds{3'600'000},
                                                                 .connect = TestGateway::kPatience},
                                                      Pool::Gauges{idle, leased});
};

// R-POOL-1
TEST_F(PoolTest, WarmConnectionsExistBeforeTraffic) {
  warm();

  EXPECT_EQ(pool->idle_count(), 2U);
  EXPECT_EQ(idle.value(), 2);
  EXPECT_TRUE(pool->try_lease(false)->connected());
}

// R-POOL-1
TEST_F(PoolTest, AttemptsThatEndNormallyReuseOneConnection) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(use_once());

  EXPECT_EQ(worker.connections_accepted(), 1U);
}

TEST_F(PoolTest, ALeaseThatEndsInsideAnExchangeClosesItsConnection) {
  {
    auto lease = pool->try_lease(false);
    ASSERT_TRUE(run(exchange(*lease)));
    http::Request request;
    request.method = "POST";
    request.target = "/v1/chat/completions";
    worker.set_script({token("a"), hang()});
    const auto send = [](Lease& of, const http::Request& what) -> asio::awaitable<int> {
      auto head = co_await of.connection().send(what, Deadline::after(TestGateway::kPatience));
      co_return head ? head->status : 0;
    };
    EXPECT_EQ(run(send(*lease, request)), 200);
  }

  EXPECT_EQ(pool->idle_count(), 0U);
  EXPECT_TRUE(worker.wait_cancelled(1));
}

TEST_F(PoolTest, NoMoreThanTheMaximumAreOut) {
  std::vector<Lease> out;
  for (int i = 0; i < 3; ++i) out.push_back(std::move(*pool->try_lease(false)));

  EXPECT_FALSE(pool->try_lease(false));
  EXPECT_EQ(leased.value(), 3);
  out.pop_back();
  EXPECT_TRUE(pool->try_lease(false));
}

// R-POOL-2
TEST_F(PoolTest, AConnectionThatTheWorkerClosedIsNotGivenOut) {
  ASSERT_TRUE(use_once());
  ASSERT_EQ(pool->idle_count(), 1U);

  worker.restart();

  EXPECT_TRUE(use_once());
  EXPECT_EQ(worker.connections_accepted(), 2U);
}

TEST_F(PoolTest, ConnectionsBeyondTheWarmOnesAreClosedWhenUnused) {
  {
    std::vector<Lease> out;
    for (int i = 0; i < 3; ++i) {
      out.push_back(std::move(*pool->try_lease(false)));
      ASSERT_TRUE(run(exchange(out.back())));
    }
  }
  ASSERT_EQ(pool->idle_count(), 3U);

  pool->sweep(Clock::now());
  EXPECT_EQ(pool->idle_count(), 3U);
  pool->sweep(Clock::now() + Milliseconds{7'200'000});

  EXPECT_EQ(pool->idle_count(), 2U);
}

TEST_F(PoolTest, AClosedPoolGivesNothingAndKeepsNothing) {
  ASSERT_TRUE(use_once());
  auto lease = pool->try_lease(false);

  pool->close();

  EXPECT_FALSE(pool->try_lease(false));
  ASSERT_TRUE(run(exchange(*lease)));
  lease.reset();
  EXPECT_EQ(pool->idle_count(), 0U);
  EXPECT_EQ(leased.value(), 0);
}

// R-POOL-1, through the whole gateway.
TEST(PoolInGateway, RequestsShareWarmConnections) {
  NativePair pair;
  ASSERT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="idle"})", 2));

  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(pair.gateway.chat(kPrivate).status, 200);
    // The connection comes back a little after the answer.
    ASSERT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 0));
  }

  // Two warm ones and the state stream.
  EXPECT_EQ(pair.worker.connections_accepted(), 3U);
}

// R-POOL-2, through the whole gateway: the supervisor's word comes late, or never.
TEST(PoolInGateway, AWorkerThatWasReplacedBetweenRequestsIsNotNoticed) {
  NativePair pair;
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(pair.gateway.chat(kPrivate).status, 200);
    pair.worker.restart();
  }

  EXPECT_EQ(pair.worker.requests(), 20U);
}

TEST(PoolInGateway, RequestsBeyondAWorkersBoundWaitForAConnection) {
  MockWorker worker;
  worker.set_script({gate("a"), token("x"), finish(), usage(1, 1), done()});
  TestGateway gateway{
      native_yaml("    batch: { max_sequences: 1, step_tokens: 16 }\n    queue: { waiting: 1 }\n")};
  gateway.set_workers({{"m/0", "m", worker.address()}});
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(gateway.api()));
    clients.back()->post("/v1/chat/completions", chat_body(kPrivate));
  }
  ASSERT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 4));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 2));
  EXPECT_EQ(worker.request(2).method, "POST");
  EXPECT_EQ(worker.requests(), 2U);

  worker.open("a");

  for (const auto& client : clients) EXPECT_EQ(client->read().status, 200);
}

// R-POOL-3
TEST(PoolInGateway, AfterRandomDisconnectsEveryLeaseAndPlaceIsBack) {
  NativePair pair;
  pair.worker.set_script({token("a"), token("b"), gate("a"), finish(), usage(1, 2), done()});
  {
    std::vector<std::unique_ptr<Client>> clients;
    const auto streams = [](std::size_t i) { return i % 3 != 0; };
    const auto leaves = [](std::size_t i) { return i % 2 == 1; };
    for (std::size_t i = 0; i < 200; ++i) {
      clients.push_back(std::make_unique<Client>(pair.gateway.api()));
      clients[i]->post("/v1/chat/completions", chat_body(streams(i) ? kPrivateStream : kPrivate));
      if (streams(i) && i % 5 == 1) (void)clients[i]->read_head();
      if (leaves(i)) clients[i]->close();
    }
    pair.worker.open("a");
    for (std::size_t i = 0; i < 200; ++i) {
      if (leaves(i)) continue;
      if (streams(i) && i % 5 == 1) {
        EXPECT_EQ(read_text(*clients[i]), "ab");
      } else {
        EXPECT_EQ(clients[i]->read().status, 200);
      }
    }
  }

  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 0));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_requests_in_flight", 0));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_streams_active", 0));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_inflight{worker="m/0"})", 0));
}

TEST(PoolInGateway, WorkersMayListenOnUnixSockets) {
  std::string pattern = (std::filesystem::temp_directory_path() / "workerXXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(pattern.data());
  {
    MockWorker worker{{.kind = http::Address::Kind::kUnix, .path = (folder / "w0.sock").string()}};
    TestGateway gateway{native_yaml()};
    gateway.set_workers({{"m/0", "m", worker.address()}});

    for (int i = 0; i < 20; ++i) EXPECT_EQ(gateway.chat().status, 200);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mlxs::gateway
