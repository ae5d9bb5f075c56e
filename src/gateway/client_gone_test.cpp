#include "gateway/testing/test_gateway.h"

#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

using namespace script;

TEST(ClientGone, InMidStreamTheWorkerIsToldAtOnce) {
  NativePair pair;
  pair.worker.set_script({token("Hello"), hang()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  client.close();

  EXPECT_TRUE(pair.worker.wait_cancelled(1));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_client_disconnects_total", 1));
  EXPECT_TRUE(
      pair.gateway.wait_metric(R"(mlx_attempts_total{result="cancelled",worker="m/0"})", 1));
}

TEST(ClientGone, BeforeTheFirstTokenTheWorkerIsToldAtOnce) {
  NativePair pair;
  pair.worker.set_script({hang()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  EXPECT_EQ(pair.worker.request(1).method, "POST");

  client.close();

  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

// R-ADM-6
TEST(ClientGone, WhileParkedItsPlaceIsFreed) {
  TestGateway gateway{native_yaml()};
  Client client{gateway.api()};
  client.post("/v1/chat/completions", chat_body());
  EXPECT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 1));

  client.close();

  EXPECT_TRUE(gateway.wait_metric("mlx_requests_in_flight", 0));
}

TEST(ClientGone, OthersGoOn) {
  NativePair pair;
  pair.worker.set_script({token("Hello"), gate("a"), finish(), usage(1, 1), done()});
  Client leaves{pair.gateway.api()};
  Client stays{pair.gateway.api()};
  leaves.post("/v1/chat/completions", chat_body(kPrivateStream));
  stays.post("/v1/chat/completions", chat_body(kPrivateStream));
  (void)leaves.read_head();
  (void)stays.read_head();

  leaves.close();
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
  pair.worker.open("a");

  EXPECT_EQ(read_text(stays), "Hello");
  EXPECT_TRUE(stays.complete());
}

}  // namespace
}  // namespace mlxs::gateway
