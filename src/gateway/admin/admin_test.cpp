#include "base/hash.h"
#include "base/version.h"
#include "gateway/testing/test_gateway.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using namespace script;
using testing::HasSubstr;
using testing::Not;

TEST(Admin, StatusTellsVersionReadinessLoadAndModels) {
  NativePair pair;
  ASSERT_TRUE(pair.gateway.wait_ready());

  const json::value status = get(pair.gateway.admin(), "/admin/v1/status").json();

  EXPECT_EQ(status.at("version"), json::string{kVersion});
  EXPECT_EQ(status.at("ready"), true);
  EXPECT_EQ(status.at("in_flight"), 0);
  EXPECT_GE(status.at("uptime_s").as_double(), 0);
  EXPECT_TRUE(status.at("pid").is_number());
  EXPECT_EQ(status.at("models").at(0).at("id"), "m");
  EXPECT_EQ(status.at("models").at(0).at("ready"), true);
}

TEST(Admin, WorkersShowWhatTheirStateStreamSaid) {
  NativePair pair;
  json::object state;
  state["ready"] = true;
  state["steps"] = 42;
  state["running"] = 2;
  state["waiting"] = 1;
  pair.worker.set_state(state);
  ASSERT_TRUE(pair.gateway.wait_ready());
  json::value worker;
  ASSERT_TRUE(eventually([&] {
    worker = get(pair.gateway.admin(), "/admin/v1/workers").json().at("workers").at(0);
    return worker.at("steps") == 42;
  }));

  EXPECT_EQ(worker.at("id"), "m/0");
  EXPECT_EQ(worker.at("model"), "m");
  EXPECT_EQ(worker.at("kind"), "native");
  EXPECT_EQ(worker.at("state"), "ready");
  EXPECT_EQ(worker.at("pid"), 1);
  EXPECT_EQ(worker.at("running"), 2);
  EXPECT_EQ(worker.at("waiting"), 1);
  EXPECT_EQ(worker.at("steps"), 42);
}

TEST(Admin, ForeignWorkersShowTheirUrlAndWhyTheyAreDown) {
  auto gone = std::make_unique<MockWorker>();
  const std::string url = gone->url();
  gone.reset();
  TestGateway gateway{foreign_yaml({url})};
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="unreachable",worker="m/0"})", 1));

  const json::value worker = get(gateway.admin(), "/admin/v1/workers").json().at("workers").at(0);

  EXPECT_EQ(worker.at("kind"), "url");
  EXPECT_EQ(worker.at("address"), json::string{url});
  EXPECT_EQ(worker.at("ready"), false);
  EXPECT_THAT(std::string{worker.at("error").as_string()}, HasSubstr("connect"));
  const json::value models = get(gateway.admin(), "/admin/v1/models").json();
  EXPECT_EQ(models.at("models").at(0).at("ready"), false);
  EXPECT_EQ(models.at("models").at(0).at("workers").at(0), "m/0");
}

TEST(Admin, TheConfigurationInForceIsShownWithoutKeyHashes) {
  const std::string hash = to_hex(sha256("secret"));
  TestGateway gateway{
      native_yaml("keys: [ { name: ann, sha256: " + hash + " } ]\nlimits: { in_flight: 99 }\n")};

  const auto key = headers_of({{"authorization", "Bearer secret"}});
  const json::value config = get(gateway.admin(), "/admin/v1/config", key).json();

  const std::string yaml{config.at("yaml").as_string()};
  EXPECT_THAT(yaml, HasSubstr("in_flight: 99"));
  EXPECT_THAT(yaml, HasSubstr("ann"));
  EXPECT_THAT(yaml, Not(HasSubstr(hash)));
}

// R-ROUTE-7: the control thread answers whatever the data loop does.
TEST(Admin, HealthAnswersWhileTheDataLoopIsBusy) {
  NativePair pair;
  // A body at the limit of what is parsed keeps the one data loop busy for a while.
  std::string messages;
  for (int i = 0; i < 20'000; ++i) messages += R"({"role":"user","content":"x"},)";
  messages += R"({"role":"user","content":"x"})";
  const std::string body = R"({"model":"m","messages":[)" + messages + "]}";
  Client busy{pair.gateway.api()};
  busy.post("/v1/chat/completions", body);

  for (int i = 0; i < 20; ++i) EXPECT_EQ(get(pair.gateway.admin(), "/health").status, 200);

  EXPECT_EQ(busy.read().status, 200);
}

}  // namespace
}  // namespace mlxs::gateway
