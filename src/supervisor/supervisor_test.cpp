// The real supervisor in a process of its own; its children are the puppets of stand_in.cpp.
#include "supervisor/supervisor.h"

#include "config/config.h"
#include "http/address.h"
#include "supervisor/cores.h"
#include "supervisor/test_stage.h"

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::supervisor {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kModel = "models: [ { id: m, source: m.gguf } ]\n";
constexpr const char* kReady = R"(state {"ready":true,"running":0,"waiting":0})";

bool ended_with(int status, int code) { return WIFEXITED(status) && WEXITSTATUS(status) == code; }

/// A server with one worker, both ready.
struct Running {
  explicit Running(const std::string& config = kModel) : stage(config) {
    stage.start();
    worker.emplace(stage.next("worker"));
    gateway.emplace(stage.next("gateway"));
    const auto message = gateway->control("config");
    const auto config_there = config::parse(std::string{message.at("yaml").as_string()}, "message");
    address = config_there->listen;
    worker->command(kReady);
    row = gateway->worker_in_state("running");
    gateway->command(R"(control {"type":"ready"})");
    stage.output_with("Try it");
  }
  Stage stage;
  std::optional<Puppet> worker;
  std::optional<Puppet> gateway;
  std::string address;      ///< Of the API.
  boost::json::object row;  ///< The worker's, in the gateway's table.
};

TEST(Supervisor, StartsItsChildrenAsAgreed) {
  Stage stage{
      "log: { level: warn }\n"
      "state_dir: state\n"
      "packed_weights: { bytes: 1GiB }\n"
      "models: [ { id: m, source: dir/m.gguf, compute: float32, context_tokens: 512,"
      " kv_bytes: 1MiB, batch: { max_sequences: 4, step_tokens: 32,"
      " latency_budget_ms: 50, first_token_ms: 900, prefix_cache: off }, queue: { waiting: 9 } } "
      "]\n"};
  stage.start();

  const Puppet worker = stage.next("worker");
  Puppet gateway = stage.next("gateway");

  auto arguments = worker.arguments();
  const auto threads = std::find(arguments.begin(), arguments.end(), "--threads");
  ASSERT_NE(threads, arguments.end());
  EXPECT_EQ(std::stoi(*(threads + 1)), cores_available());
  arguments.erase(threads, threads + 2);
  EXPECT_THAT(arguments,
              ElementsAre("--id",
                          "m",
                          "--source",
                          "dir/m.gguf",
                          "--compute",
                          "float32",
                          "--max-sequences",
                          "4",
                          "--step-tokens",
                          "32",
                          "--latency-budget-ms",
                          "50",
                          "--first-token-ms",
                          "900",
                          "--prefix-cache",
                          "off",
                          "--waiting",
                          "9",
                          "--context-tokens",
                          "512",
                          "--kv-bytes",
                          "1048576",
                          "--packed-folder",
                          "state/weights",
                          "--packed-bytes",
                          "1073741824",
                          "--listen-fd",
                          "4",
                          "--lifeline-fd",
                          "3",
                          "--log-level",
                          "warn"));
  EXPECT_THAT(gateway.arguments(), ElementsAre("gateway"));
  EXPECT_EQ(worker.hello().at("descriptors"), boost::json::array({0, 1, 2, 3, 4}));
  EXPECT_EQ(gateway.hello().at("descriptors"), boost::json::array({0, 1, 2, 3, 4, 5}));
  // Groups of their own: Ctrl-C in a terminal reaches the supervisor only.
  EXPECT_EQ(worker.hello().at("group"), worker.hello().at("pid"));
  EXPECT_EQ(gateway.hello().at("group"), gateway.hello().at("pid"));
}

TEST(Supervisor, WorkersKeepNoPackedWeightsWhereThatIsOff) {
  Stage stage{"state_dir: state\npacked_weights: { enabled: off }\n" + std::string{kModel}};
  stage.start();
  EXPECT_THAT(stage.next("worker").arguments(), Not(Contains("--packed-folder")));
}

TEST(Supervisor, TellsTheGatewayTheConfigurationAndTheWorkers) {
  Stage stage{kModel};
  stage.start({"limits.in_flight=7"});
  Puppet worker = stage.next("worker");
  Puppet gateway = stage.next("gateway");

  const auto config = config::parse(std::string{gateway.control("config").at("yaml").as_string()},
                                    "from the supervisor");
  const auto starting = gateway.worker_in_state("starting");
  worker.command(R"(state {"ready":false,"load_progress":0.5})");
  worker.command(kReady);
  const auto running = gateway.worker_in_state("running");

  ASSERT_TRUE(config);
  EXPECT_EQ(config->limits.in_flight, 7);
  EXPECT_THAT(config->listen, Not(::testing::EndsWith(":0"))) << "the real port";
  EXPECT_THAT(config->admin.listen, Not(::testing::EndsWith(":0"))) << "the real port";
  EXPECT_EQ(starting.at("id").as_string(), "m/0");
  EXPECT_EQ(starting.at("model").as_string(), "m");
  EXPECT_THAT(std::string{starting.at("address").as_string()}, ::testing::StartsWith("unix:/"));
  EXPECT_EQ(starting.at("pid").as_int64(), worker.pid());
  EXPECT_EQ(running.at("restarts").as_int64(), 0);
}

TEST(Supervisor, SaysHowToUseItOnceEverythingIsReady) {
  Stage stage{kModel};
  stage.start();
  Puppet worker = stage.next("worker");
  Puppet gateway = stage.next("gateway");
  const auto message = gateway.control("config");
  const auto config = config::parse(std::string{message.at("yaml").as_string()}, "message");
  gateway.command(R"(control {"type":"ready"})");

  worker.command(kReady);

  const std::string text = stage.output_with("Try it");
  EXPECT_THAT(text, HasSubstr("http://" + config->listen + "/v1"));
}

TEST(Supervisor, AWorkerThatCrashesIsStartedAgainOnTheSameSocket) {
  Running server;

  server.worker->command("stderr out of luck");
  server.worker->command("exit 3");

  const auto backoff = server.gateway->worker_in_state("backoff");
  EXPECT_EQ(backoff.at("error").as_string(), "exit code 3: out of luck");
  EXPECT_EQ(backoff.at("pid").as_int64(), 0);
  const Puppet again = server.stage.next("worker");
  const auto starting = server.gateway->worker_in_state("starting");
  EXPECT_EQ(starting.at("pid").as_int64(), again.pid());
  EXPECT_EQ(starting.at("restarts").as_int64(), 1);
  EXPECT_EQ(starting.at("address"), server.row.at("address"));
  EXPECT_THAT(server.stage.output_with("out of luck"), HasSubstr("out of luck\n"));
}

TEST(Supervisor, ACrashLoopOfAWorkerIsGivenUpAndTheServerGoesOn) {
  Stage stage{kModel};
  stage.start();
  Puppet gateway = stage.next("gateway");

  for (int i = 0; i < 11; ++i) stage.next("worker").command("exit 1");

  const auto failed = gateway.worker_in_state("failed");
  EXPECT_EQ(failed.at("restarts").as_int64(), 10);
  EXPECT_THAT(stage.output_with("failed"), HasSubstr("it ended too often"));
  EXPECT_FALSE(stage.somebody_waits());
  gateway.command("ping");
  EXPECT_TRUE(gateway.event().contains("pong"));
}

TEST(Supervisor, AModelThatCannotBeLoadedIsNotTriedAgainUntilSighup) {
  Stage stage{kModel};
  stage.start();
  Puppet gateway = stage.next("gateway");
  Puppet worker = stage.next("worker");

  worker.command("stderr m.gguf: no such file");
  worker.command("exit 78");

  const auto failed = gateway.worker_in_state("failed");
  EXPECT_EQ(failed.at("error").as_string(), "m.gguf: no such file");
  EXPECT_EQ(failed.at("restarts").as_int64(), 0);
  stage.send(SIGHUP);
  const Puppet again = stage.next("worker");
  again.command(kReady);
  EXPECT_EQ(gateway.worker_in_state("running").at("error").as_string(), "");
}

TEST(Supervisor, WithoutAnyModelThatLoadsItStillSaysWhereItIs) {
  Stage stage{kModel};
  stage.start();
  const Puppet gateway = stage.next("gateway");
  gateway.command(R"(control {"type":"ready"})");

  stage.next("worker").command("exit 78");

  stage.output_with("no model can serve");
}

// R-ROLL-5: the supervisor keeps listeners and workers over a gateway crash.
TEST(Supervisor, ConnectionsMadeWhileTheGatewayIsDeadAreServedByTheNext) {
  Running server;
  ::kill(server.gateway->pid(), SIGKILL);
  ASSERT_TRUE(server.gateway->gone());

  const Fd client = connect_to(server.address);

  ASSERT_TRUE(client.valid()) << "refused";
  Puppet next = server.stage.next("gateway");
  next.control("config");
  EXPECT_EQ(next.worker_in_state("running").at("pid").as_int64(), server.worker->pid());
  next.command("answer hello");
  EXPECT_EQ(read_all(client), "hello");
}

TEST(Supervisor, AGatewayThatKeepsCrashingEndsTheServer) {
  Stage stage{kModel};
  stage.start();
  Puppet worker = stage.next("worker");

  for (int i = 0; i < 11; ++i) stage.next("gateway").command("exit 1");

  EXPECT_EQ(worker.event().at("signal").as_int64(), SIGTERM);
  worker.command("exit 0");
  EXPECT_TRUE(ended_with(stage.wait(), 1));
  EXPECT_THAT(stage.output_with("cannot be kept running"), HasSubstr("exit code 1"));
  EXPECT_EQ(stage.runtime_folders(), 0U);
}

// R-ROLL-6
TEST(Supervisor, SigtermDrainsTheGatewayBeforeTheWorkersEnd) {
  Running server;

  server.stage.send(SIGTERM);

  server.gateway->control("drain");
  server.worker->command("ping");
  EXPECT_TRUE(server.worker->event().contains("pong")) << "not asked to end before the gateway has";
  server.gateway->command("exit 0");
  EXPECT_EQ(server.worker->event().at("signal").as_int64(), SIGTERM);
  server.worker->command("exit 0");
  EXPECT_TRUE(ended_with(server.stage.wait(), 0));
  EXPECT_FALSE(server.stage.somebody_waits()) << "what ended as asked is not started again";
  EXPECT_EQ(server.stage.runtime_folders(), 0U);
}

TEST(Supervisor, WhatDoesNotEndInTimeIsKilled) {
  Running server{std::string{kModel} + "timeouts: { drain_ms: 10 }\n"};

  server.stage.send(SIGINT);

  EXPECT_TRUE(server.gateway->gone());
  EXPECT_TRUE(server.worker->gone());
  EXPECT_TRUE(ended_with(server.stage.wait(), 0));
}

// R-ROLL-6
TEST(Supervisor, ASecondSignalEndsAtOnce) {
  Running server;
  server.stage.send(SIGTERM);
  server.gateway->control("drain");

  server.stage.send(SIGTERM);

  EXPECT_TRUE(ended_with(server.stage.wait(), 0));
  EXPECT_TRUE(server.gateway->gone());
  EXPECT_TRUE(server.worker->gone());
}

TEST(Supervisor, SigtermDuringALoadEnds) {
  Stage stage{kModel};
  stage.start();
  Puppet worker = stage.next("worker");
  Puppet gateway = stage.next("gateway");

  stage.send(SIGTERM);

  gateway.control("drain");
  gateway.command("exit 0");
  EXPECT_EQ(worker.event().at("signal").as_int64(), SIGTERM);
  worker.command("exit 0");
  EXPECT_TRUE(ended_with(stage.wait(), 0));
}

TEST(Supervisor, NothingStaysBehindAKilledSupervisor) {
  Running server;

  server.stage.send(SIGKILL);

  EXPECT_TRUE(server.gateway->gone());
  EXPECT_TRUE(server.worker->gone());
  server.stage.wait();
  EXPECT_FALSE(connect_to(server.address).valid());
  EXPECT_EQ(server.stage.runtime_folders(), 1U);
  server.stage.start();
  const Puppet worker = server.stage.next("worker");
  EXPECT_EQ(server.stage.runtime_folders(), 1U) << "the next start removed what the first left";
}

TEST(Supervisor, APortInUseIsAnErrorThatNamesItAndLeavesNothing) {
  Stage stage{kModel};
  const Fd taken{*http::listen_on(*http::Address::parse("127.0.0.1:0"))};
  const std::string address = http::local_address(taken.get())->to_string();
  stage.write_config(kModel, address);

  stage.start();

  EXPECT_TRUE(ended_with(stage.wait(), 1));
  const std::string text = stage.output_with("in use");
  EXPECT_THAT(text, HasSubstr(address));
  EXPECT_FALSE(stage.somebody_waits());
  EXPECT_EQ(stage.runtime_folders(), 0U);
}

TEST(Supervisor, AWrongConfigurationIsAnErrorThatNamesItsPlace) {
  Stage stage{"modles: []\n"};

  stage.start();

  EXPECT_TRUE(ended_with(stage.wait(), 1));
  stage.output_with("config.yaml:3: modles: unknown key; did you mean models?");
}

TEST(Supervisor, SighupBringsTheNewConfigurationToTheGateway) {
  Running server;

  server.stage.write_config(std::string{kModel} + "limits: { in_flight: 5 }\nthreads: 3\n");
  server.stage.send(SIGHUP);

  const auto message = server.gateway->control("config");
  const auto config = config::parse(std::string{message.at("yaml").as_string()}, "message");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->limits.in_flight, 5);
  EXPECT_EQ(config->threads, 0) << "needs a restart";
  server.stage.output_with("threads changed: takes effect at the next start");
}

TEST(Supervisor, AWrongConfigurationOnSighupChangesNothing) {
  Running server;

  server.stage.write_config("models: 7\n");
  server.stage.send(SIGHUP);

  EXPECT_THAT(server.stage.output_with("configuration not changed"), HasSubstr("config.yaml:3"));
  server.stage.write_config(std::string{kModel} + "limits: { in_flight: 5 }\n");
  server.stage.send(SIGHUP);
  const auto message = server.gateway->control("config");
  EXPECT_THAT(std::string{message.at("yaml").as_string()}, HasSubstr("in_flight: 5"));
  EXPECT_FALSE(server.stage.somebody_waits());
}

TEST(Supervisor, SighupStartsWorkersThatWereAdded) {
  Running server;

  server.stage.write_config(
      "models: [ { id: m, source: m.gguf, workers: 2 }, { id: n, source: n.gguf } ]\n");
  server.stage.send(SIGHUP);

  const Puppet one = server.stage.next("worker");
  const Puppet other = server.stage.next("worker");
  const std::vector<std::string> ids{one.arguments().at(1), other.arguments().at(1)};
  EXPECT_THAT(ids, ::testing::UnorderedElementsAre("m", "n"));
  while (server.gateway->control("workers").at("workers").as_array().size() < 3) {
  }
}

TEST(Supervisor, SighupLetsRemovedWorkersFinishTheirSequences) {
  Running server;
  server.worker->command(R"(state {"ready":true,"running":1,"waiting":0})");

  server.stage.write_config("models: []\n");
  server.stage.send(SIGHUP);

  server.gateway->worker_in_state("stopping");
  server.worker->command("ping");
  EXPECT_TRUE(server.worker->event().contains("pong")) << "it still has a sequence";
  // As a worker does: an event a second. It is asked to end by one that comes late enough.
  std::optional<boost::json::object> event;
  for (int i = 0; i < 600 && !event; ++i) {
    ::usleep(100'000);
    server.worker->command(kReady);
    server.worker->command("ping");
    auto next = server.worker->event();
    if (next.contains("signal")) event = next;
  }
  ASSERT_TRUE(event);
  server.worker->command("exit 0");
  while (!server.gateway->control("workers").at("workers").as_array().empty()) {
  }
}

TEST(Supervisor, RemovedWorkersThatAreNotReadyEndAtOnce) {
  Stage stage{kModel};
  stage.start();
  Puppet worker = stage.next("worker");
  Puppet gateway = stage.next("gateway");
  gateway.worker_in_state("starting");

  stage.write_config("models: []\n");
  stage.send(SIGHUP);

  EXPECT_EQ(worker.event().at("signal").as_int64(), SIGTERM);
}

TEST(Supervisor, RemovedWorkersEndAfterTheDrainTimeInAnyCase) {
  Running server{std::string{kModel} + "timeouts: { drain_ms: 50 }\n"};
  server.worker->command(R"(state {"ready":true,"running":1,"waiting":0})");

  server.stage.write_config("timeouts: { drain_ms: 50 }\nmodels: []\n");
  server.stage.send(SIGHUP);

  EXPECT_EQ(server.worker->event().at("signal").as_int64(), SIGTERM);
}

}  // namespace
}  // namespace mlxs::supervisor
