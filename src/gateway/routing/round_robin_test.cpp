#include "gateway/routing/round_robin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace mlxs::gateway {
namespace {

std::vector<WorkerPtr> workers(std::initializer_list<const char*> ids) {
  std::vector<WorkerPtr> result;
  for (const char* id : ids) {
    auto worker = std::make_shared<Worker>();
    worker->id = id;
    result.push_back(worker);
  }
  return result;
}

// R-ROUTE-1
TEST(RoundRobin, CountsDifferByAtMostOneOverAnyWindow) {
  RoundRobin policy;
  const auto ready = workers({"m/0", "m/1", "m/2"});
  std::map<std::string, int> counts;

  for (int turn = 1; turn <= 100; ++turn) {
    ++counts[policy.pick("m", ready)->id];

    const int expected = turn / 3;
    for (const auto& worker : ready) {
      EXPECT_GE(counts[worker->id], expected) << turn;
      EXPECT_LE(counts[worker->id], expected + 1) << turn;
    }
  }
}

// R-ROUTE-1
TEST(RoundRobin, AWorkerThatLeavesMakesNoOtherSkipOrRepeatItsTurn) {
  RoundRobin policy;
  const auto all = workers({"m/0", "m/1", "m/2", "m/3"});
  EXPECT_EQ(policy.pick("m", all)->id, "m/0");
  EXPECT_EQ(policy.pick("m", all)->id, "m/1");

  const auto fewer = workers({"m/0", "m/2", "m/3"});

  EXPECT_EQ(policy.pick("m", fewer)->id, "m/2");
  EXPECT_EQ(policy.pick("m", fewer)->id, "m/3");
  EXPECT_EQ(policy.pick("m", fewer)->id, "m/0");
}

// R-ROUTE-1
TEST(RoundRobin, AWorkerThatJoinsGetsItsTurnInOrder) {
  RoundRobin policy;
  const auto few = workers({"m/0", "m/2"});
  EXPECT_EQ(policy.pick("m", few)->id, "m/0");

  const auto all = workers({"m/0", "m/1", "m/2"});

  EXPECT_EQ(policy.pick("m", all)->id, "m/1");
  EXPECT_EQ(policy.pick("m", all)->id, "m/2");
  EXPECT_EQ(policy.pick("m", all)->id, "m/0");
}

TEST(RoundRobin, ModelsTakeTurnsIndependently) {
  RoundRobin policy;
  const auto ready = workers({"m/0", "m/1"});

  EXPECT_EQ(policy.pick("a", ready)->id, "m/0");
  EXPECT_EQ(policy.pick("b", ready)->id, "m/0");
}

TEST(RoundRobin, AvoidsTheWorkerThatFailedWhereAnotherIsReady) {
  RoundRobin policy;
  const auto ready = workers({"m/0", "m/1"});
  EXPECT_EQ(policy.pick("m", ready)->id, "m/0");
  EXPECT_EQ(policy.pick("m", ready)->id, "m/1");

  EXPECT_EQ(policy.pick("m", ready, "m/0")->id, "m/1");
  EXPECT_EQ(policy.pick("m", workers({"m/0"}), "m/0")->id, "m/0");
}

TEST(RoundRobin, NothingReadyGivesNothing) {
  RoundRobin policy;

  EXPECT_EQ(policy.pick("m", {}), nullptr);
}

}  // namespace
}  // namespace mlxs::gateway
