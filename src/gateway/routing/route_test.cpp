#include "gateway/testing/test_gateway.h"

#include <boost/json/object.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace mlxs::gateway {
namespace {

using namespace script;
using testing::HasSubstr;

// R-ROUTE-1
TEST(Route, WorkersOfOneModelTakeTurns) {
  MockWorker first;
  MockWorker second;
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{"m/0", "m", first.address()}, {"m/1", "m", second.address()}});
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/1"})", 1));

  for (int i = 0; i < 10; ++i) EXPECT_EQ(gateway.chat(kPrivate).status, 200);

  EXPECT_EQ(first.requests(), 5U);
  EXPECT_EQ(second.requests(), 5U);
}

TEST(Route, ARequestIsParkedUntilAWorkerIsReady) {
  MockWorker worker;
  TestGateway gateway{native_yaml()};
  Client client{gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 1));

  gateway.set_workers({{"m/0", "m", worker.address()}});

  EXPECT_EQ(client.read().status, 200);
}

TEST(Route, AWorkerThatLoadsGetsNothingUntilItSaysReady) {
  MockWorker worker;
  boost::json::object state;
  state["ready"] = false;
  state["load_progress"] = 0.4;
  worker.set_state(state);
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{"m/0", "m", worker.address()}});
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="loading",worker="m/0"})", 1));
  EXPECT_EQ(get(gateway.api(), "/ready").status, 503);
  Client client{gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 1));
  EXPECT_EQ(worker.requests(), 0U);

  state["ready"] = true;
  worker.set_state(state);

  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(get(gateway.api(), "/ready").status, 200);
}

TEST(Route, WithoutAReadyWorkerTheWaitEndsWithRetryAfter) {
  TestGateway gateway{native_yaml("timeouts: { worker_wait_ms: 30 }\n")};

  const Answer answer = gateway.chat();

  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.error_code(), "unavailable");
  EXPECT_EQ(answer.header("x-should-retry"), "true");
  EXPECT_FALSE(answer.header("retry-after").empty());
}

TEST(Route, AModelWhoseWorkersFailedIsRefusedWithTheReason) {
  MockWorker worker;
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{.id = "m/0",
                        .model = "m",
                        .address = worker.address(),
                        .state = "failed",
                        .error = "m.gguf: truncated"}});

  const Answer answer = gateway.chat();

  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.error_code(), "model_load_failed");
  EXPECT_EQ(answer.header("x-should-retry"), "false");
  EXPECT_THAT(answer.body, HasSubstr("m.gguf: truncated"));
}

TEST(Route, AParkedRequestLearnsThatItsModelFailed) {
  MockWorker worker;
  worker.kill();
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{"m/0", "m", worker.address()}});
  Client client{gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 1));

  gateway.set_workers(
      {{.id = "m/0", .model = "m", .address = worker.address(), .state = "failed", .error = "no"}});

  EXPECT_EQ(client.read().error_code(), "model_load_failed");
}

TEST(Route, AnswersGoOnAfterAWorkerWasReplaced) {
  NativePair pair;
  EXPECT_EQ(pair.gateway.chat(kPrivate).status, 200);

  pair.worker.kill();
  ASSERT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_state{state="starting",worker="m/0"})", 1));
  pair.worker.restart();
  pair.gateway.set_workers(
      {{.id = "m/0", .model = "m", .address = pair.worker.address(), .pid = 2, .restarts = 1}});

  EXPECT_EQ(pair.gateway.chat(kPrivate).status, 200);
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_restarts_total{worker="m/0"})", 1));
}

TEST(Retry, AnAttemptThatNeverBeganIsMadeOnAnotherWorker) {
  MockWorker dead;
  MockWorker alive;
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{"m/0", "m", dead.address()}, {"m/1", "m", alive.address()}});
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/1"})", 1));
  dead.set_script({answer(503, R"({"error":{"message":"loading","code":"unavailable"}})")});

  for (int i = 0; i < 4; ++i) EXPECT_EQ(gateway.chat(kPrivate).status, 200);

  EXPECT_EQ(alive.requests(), 4U);
}

TEST(Retry, EndsAfterThreeAttempts) {
  NativePair pair;
  pair.worker.set_script({answer(503, R"({"error":{"message":"loading","code":"unavailable"}})")});

  const Answer answer = pair.gateway.chat();

  EXPECT_EQ(answer.status, 503);
  EXPECT_FALSE(answer.header("retry-after").empty());
  EXPECT_EQ(pair.worker.requests(), 3U);
}

TEST(Retry, NeverAfterTheFirstEvent) {
  NativePair pair;
  pair.worker.set_script({token("Hel"), cut()});

  EXPECT_EQ(pair.gateway.chat().status, 502);
  EXPECT_EQ(pair.worker.requests(), 1U);
}

TEST(Retry, NeverForWhatTheWorkerRefused) {
  NativePair pair;
  pair.worker.set_script({answer(500, R"({"error":{"message":"eval failed"}})")});

  EXPECT_EQ(pair.gateway.chat().status, 500);
  EXPECT_EQ(pair.worker.requests(), 1U);
}

TEST(Retry, AForeignWorkerThatCannotBeReachedIsReplacedByOneThatCan) {
  MockWorker alive;
  auto gone = std::make_unique<MockWorker>();
  TestGateway gateway{foreign_yaml({gone->url(), alive.url()})};
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/1"})", 1));
  gone.reset();

  for (int i = 0; i < 4; ++i) EXPECT_EQ(gateway.chat(kPrivate).status, 200);

  EXPECT_EQ(alive.requests(), 4U);
}

}  // namespace
}  // namespace mlxs::gateway
