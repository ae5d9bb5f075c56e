#include "base/hash.h"
#include "gateway/testing/test_gateway.h"

#include <boost/json/object.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

using namespace script;
using testing::HasSubstr;
using testing::Not;

Tuning quick_stall() {
  Tuning tuning;
  tuning.stall = Milliseconds{60};
  tuning.stall_check = Milliseconds{10};
  return tuning;
}

TEST(Lifecycle, SaysReadyOnceItAcceptsAndHealthAnswersWithoutAnyWorker) {
  TestGateway gateway{native_yaml()};

  EXPECT_TRUE(gateway.was_ready());
  EXPECT_EQ(get(gateway.api(), "/health").status, 200);
  EXPECT_EQ(get(gateway.admin(), "/health").status, 200);
  EXPECT_EQ(get(gateway.api(), "/ready").status, 503);
  EXPECT_EQ(get(gateway.admin(), "/ready").status, 503);
}

TEST(Lifecycle, DrainLetsRunningRequestsFinishAndExitsCleanly) {
  NativePair pair;
  pair.worker.set_script({token("a"), gate("a"), token("b"), finish(), usage(1, 2), done()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  pair.gateway.drain();
  pair.worker.open("a");

  EXPECT_EQ(read_text(client), "ab");
  EXPECT_TRUE(client.complete());
  EXPECT_EQ(pair.gateway.wait_exit(), 0);
}

TEST(Lifecycle, WhatOutlastsTheDrainIsCutWithAnError) {
  NativePair pair{"timeouts: { drain_ms: 30 }\n"};
  pair.worker.enqueue({token("a"), hang()});
  pair.worker.enqueue({hang()});
  Client stream{pair.gateway.api()};
  Client whole{pair.gateway.api()};
  stream.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)stream.read_head();
  whole.post("/v1/chat/completions", chat_body(kPrivate));
  EXPECT_EQ(pair.worker.request(2).method, "POST");

  pair.gateway.drain();
  std::string events;
  while (const auto event = stream.next_event()) events += *event;
  const Answer answer = whole.read();

  EXPECT_THAT(events, HasSubstr(R"("code":"shutting_down")"));
  EXPECT_THAT(events, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(stream.complete());
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.error_code(), "shutting_down");
  EXPECT_EQ(pair.gateway.wait_exit(), 0);
}

TEST(Lifecycle, AnIdleGatewayDrainsAtOnce) {
  NativePair pair;
  EXPECT_EQ(pair.gateway.chat().status, 200);

  pair.gateway.drain();

  EXPECT_EQ(pair.gateway.wait_exit(), 0);
}

TEST(Lifecycle, TheEndOfTheControlChannelEndsTheGatewayAtOnce) {
  NativePair pair;
  pair.worker.set_script({token("a"), hang()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  pair.gateway.close_control();

  EXPECT_EQ(pair.gateway.wait_exit(), 1);
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

TEST(Lifecycle, AFirstConfigurationThatCannotBeReadEndsIt) {
  TestGateway gateway{"nonsense: 1\n"};

  EXPECT_FALSE(gateway.was_ready());
  EXPECT_EQ(gateway.wait_exit(), 1);
}

TEST(Lifecycle, ALineThatIsNoJsonEndsIt) {
  TestGateway gateway{native_yaml()};

  gateway.send_line("hello");

  EXPECT_EQ(gateway.wait_exit(), 1);
}

TEST(Reload, SwapsKeysLimitsAndModelsWhileRunningRequestsKeepTheirs) {
  NativePair pair;
  pair.worker.set_script({token("a"), gate("a"), finish(), usage(1, 1), done()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();
  MockWorker foreign;

  pair.gateway.send_config(native_yaml(
      "  - id: f\n    workers: [ { kind: url, url: \"" + foreign.url() + "\" } ]\n" +
      "keys: [ { name: ann, sha256: " + to_hex(sha256("s")) + " } ]\nlimits: { in_flight: 7 }\n"));
  pair.gateway.scrape_with("s");
  ASSERT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="f/0"})", 1));
  const auto key = headers_of({{"authorization", "Bearer s"}});
  const Answer without = pair.gateway.chat();
  const Answer with = post(pair.gateway.api(), "/v1/chat/completions", chat_body("", "f"), key);
  pair.worker.open("a");

  EXPECT_EQ(without.status, 401);
  EXPECT_EQ(with.status, 200) << with.body;
  EXPECT_EQ(read_text(client), "a");
  EXPECT_EQ(get(pair.gateway.admin(), "/admin/v1/status", key).json().at("in_flight_max"), 7);
}

TEST(Reload, ABadConfigurationLeavesTheOldOneInForce) {
  NativePair pair;

  pair.gateway.send_config("models: 5\n");

  EXPECT_EQ(pair.gateway.chat().status, 200);
}

TEST(Reload, AForeignModelThatIsGoneLosesItsWorkers) {
  MockWorker foreign;
  TestGateway gateway{foreign_yaml({foreign.url()})};
  ASSERT_TRUE(gateway.wait_ready());

  gateway.send_config(native_yaml());

  EXPECT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 0));
  EXPECT_EQ(get(gateway.admin(), "/ready").status, 503);
}

// R-STR-4, R-ENG-7: a hung engine behind an open socket.
TEST(Stall, AWorkerWithWorkButWithoutStepsLosesItsAttempts) {
  NativePair pair{"", quick_stall()};
  pair.worker.set_script({token("a"), hang()});
  ASSERT_TRUE(pair.gateway.wait_ready());
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  boost::json::object state;
  state["ready"] = true;
  state["steps"] = 5;
  state["running"] = 1;
  pair.worker.set_state(state);
  const Answer rest = [&] {
    Answer answer;
    while (const auto event = client.next_event()) answer.body += *event;
    return answer;
  }();

  EXPECT_THAT(rest.body, HasSubstr(R"("code":"worker_lost")"));
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_state{state="stalled",worker="m/0"})", 1));
}

TEST(Stall, AWorkerThatStepsAgainIsReadyAgain) {
  NativePair pair{"", quick_stall()};
  boost::json::object state;
  state["ready"] = true;
  state["steps"] = 5;
  state["running"] = 1;
  pair.worker.set_state(state);
  ASSERT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_state{state="stalled",worker="m/0"})", 1));

  state["steps"] = 6;
  state["running"] = 0;
  pair.worker.set_state(state);

  EXPECT_EQ(pair.gateway.chat().status, 200);
}

TEST(Probe, AForeignWorkerIsNeverAskedToGenerateAndComesBackByItself) {
  MockWorker worker;
  Tuning tuning;
  tuning.probe = Milliseconds{10};
  tuning.probe_failed = Milliseconds{10};
  TestGateway gateway{foreign_yaml({worker.url()}), tuning};
  ASSERT_TRUE(gateway.wait_ready());

  worker.set_models_status(500);
  EXPECT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="unreachable",worker="m/0"})", 1));
  worker.set_models_status(404);  // lists no models, but is there
  EXPECT_TRUE(gateway.wait_ready());

  EXPECT_EQ(worker.requests(), 0U);
  EXPECT_GE(worker.others("/v1/models"), 3U);
}

}  // namespace
}  // namespace mlxs::gateway
