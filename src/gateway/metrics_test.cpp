#include "gateway/testing/test_gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace mlxs::gateway {
namespace {

using namespace script;
using testing::HasSubstr;

const std::string kGenAi =
    R"(gen_ai_operation_name="chat",gen_ai_provider_name="mlx",gen_ai_request_model="m")";

TEST(Metrics, RequestsAreCountedByModelAndStatus) {
  NativePair pair;
  EXPECT_EQ(pair.gateway.chat().status, 200);
  EXPECT_EQ(pair.gateway.chat(R"(,"temperature":-1)").status, 400);
  EXPECT_EQ(post(pair.gateway.api(), "/v1/chat/completions", chat_body("", "other")).status, 404);

  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_requests_total{model="m",status="200"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_requests_total{model="unknown",status="404"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_rejected_total{reason="model_not_found"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_rejected_total{reason="invalid_request"})", 1));
}

TEST(Metrics, GenAiHistogramsSeeACompletedRequest) {
  NativePair pair;
  EXPECT_EQ(pair.gateway.chat().status, 200);

  for (const char* name : {"gen_ai_server_request_duration_seconds",
                           "gen_ai_server_time_to_first_token_seconds",
                           "gen_ai_server_time_per_output_token_seconds"})
    EXPECT_TRUE(pair.gateway.wait_metric(std::string{name} + "_count{" + kGenAi + "}", 1)) << name;
  const std::string usage = "gen_ai_client_token_usage_sum{" + kGenAi;
  EXPECT_TRUE(pair.gateway.wait_metric(usage + R"(,gen_ai_token_type="input"})", 3));
  EXPECT_TRUE(pair.gateway.wait_metric(usage + R"(,gen_ai_token_type="output"})", 2));
}

TEST(Metrics, OverheadLeavesOutTheTimeSpentParked) {
  MockWorker worker;
  TestGateway gateway{native_yaml()};
  const TimePoint asked = Clock::now();
  Client client{gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 1));
  const TimePoint parked = Clock::now();
  // Long enough in the waiting room to show in the sum, were it counted.
  while (Clock::now() - parked < Milliseconds{200}) (void)gateway.metric("mlx_requests_in_flight");
  const Clock::duration there = Clock::now() - parked;

  gateway.set_workers({{"m/0", "m", worker.address()}});

  EXPECT_EQ(client.read().status, 200);
  const Clock::duration whole = Clock::now() - asked;
  ASSERT_TRUE(gateway.wait_metric("mlx_gateway_overhead_seconds_count", 1));
  // However slowly all of this went.
  EXPECT_LE(gateway.metric("mlx_gateway_overhead_seconds_sum"),
            std::chrono::duration<double>(whole - there).count());
}

TEST(Metrics, StreamsInFlightAndPlacesAreShownWhileTheyLast) {
  NativePair pair;
  pair.worker.set_script({token("a"), gate("a"), finish(), usage(1, 1), done()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  EXPECT_TRUE(pair.gateway.wait_metric("mlx_streams_active", 1));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_requests_in_flight", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_inflight{worker="m/0"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 1));
  pair.worker.open("a");
  EXPECT_EQ(read_text(client), "a");

  EXPECT_TRUE(pair.gateway.wait_metric("mlx_streams_active", 0));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_requests_in_flight", 0));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_inflight{worker="m/0"})", 0));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 0));
}

TEST(Metrics, AClientThatTookItsWholeAnswerAndLeftIsNoDisconnect) {
  NativePair pair;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pair.gateway.chat().status, 200);

  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_requests_total{model="m",status="200"})", 20));
  EXPECT_EQ(pair.gateway.metric("mlx_client_disconnects_total"), 0);
}

TEST(Metrics, EveryLoopMeasuresItsDelay) {
  Tuning tuning;
  tuning.canary = Milliseconds{1};
  TestGateway gateway{native_yaml("threads: 2\n"), tuning};

  for (const char* loop : {"data0", "data1", "control"}) {
    const std::string series =
        "mlx_event_loop_delay_seconds_count{loop=\"" + std::string{loop} + "\"}";
    EXPECT_TRUE(eventually([&] { return gateway.metric(series) >= 1; })) << loop;
  }
}

TEST(Metrics, HelpAndTypeAreGivenForEach) {
  NativePair pair;
  EXPECT_EQ(pair.gateway.chat().status, 200);

  const Answer answer = get(pair.gateway.admin(), "/metrics");

  EXPECT_THAT(answer.header("content-type"), HasSubstr("version=0.0.4"));
  EXPECT_THAT(answer.body, HasSubstr("# TYPE mlx_pool_connections gauge"));
  EXPECT_THAT(answer.body, HasSubstr("# TYPE mlx_access_log_dropped_total counter"));
}

// Two loops behind one listener: each has its own pools, turns and counts are shared.
TEST(Loops, SeveralShareTheListenerAndTheTurns) {
  MockWorker first;
  MockWorker second;
  TestGateway gateway{native_yaml("threads: 4\n")};
  gateway.set_workers({{"m/0", "m", first.address()}, {"m/1", "m", second.address()}});
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/1"})", 1));

  for (int i = 0; i < 40; ++i) EXPECT_EQ(gateway.chat(kPrivate).status, 200);

  EXPECT_EQ(first.requests(), 20U);
  EXPECT_EQ(second.requests(), 20U);
}

}  // namespace
}  // namespace mlxs::gateway
