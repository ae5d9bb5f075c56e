#include "gateway/sharing/flight_table.h"

#include "gateway/loop_context.h"
#include "telemetry/metrics.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

/// A loop without a thread: flights are made but never started.
class FlightTableTest : public testing::Test {
 protected:
  [[nodiscard]] static FingerprintPtr fingerprint(const std::string& prompt) {
    return make_fingerprint({.tenant = "t", .model = "m", .generation = "g"}, {{"prompt", prompt}});
  }
  [[nodiscard]] FlightPtr flight(FingerprintPtr of) {
    FlightRequest request;
    request.model = "m";
    request.settings = settings;
    request.fingerprint = std::move(of);
    request.admitted = epochs.now();
    return std::make_shared<Flight>(context, std::move(request));
  }

  boost::asio::io_context io;
  Tuning tuning;
  telemetry::Registry registry;
  Metrics metrics{registry};
  Admission admission;
  RoundRobin round_robin;
  AccessLog access_log{io, 1, metrics.access_log_dropped};
  Epochs epochs{EpochState{.lineage = "test"}};
  AnswerStore answers{epochs, {}};
  Features features;
  FlightTable table{epochs};
  Shared shared{
      tuning, metrics, admission, round_robin, access_log, epochs, answers, features, table};
  LoopContext context{io, shared};
  SettingsPtr settings = Settings::make({});
  JoinLimits limits;
};

TEST_F(FlightTableTest, EqualRequestsMeetAndOthersDoNot) {
  const auto one = flight(fingerprint("a"));
  const auto added = table.add(one, limits, true, false);

  EXPECT_EQ(added.second, FlightTable::Added::kOpen);
  const Subscription joined = table.join(*fingerprint("a"), limits, true);
  ASSERT_TRUE(joined);
  EXPECT_EQ(&joined.flight(), one.get());
  EXPECT_FALSE(table.join(*fingerprint("b"), limits, true));
}

TEST_F(FlightTableTest, TheFasterOfTwoEqualRequestsIsJoined) {
  const auto one = flight(fingerprint("a"));
  const auto first = table.add(one, limits, true, false);

  const auto second = table.add(flight(fingerprint("a")), limits, true, false);

  EXPECT_EQ(second.second, FlightTable::Added::kJoined);
  EXPECT_EQ(&second.first.flight(), one.get());
}

// R-CACHE-5
TEST_F(FlightTableTest, AFlightFromBeforeAFlushIsNotJoined) {
  const auto one = flight(fingerprint("a"));
  const auto added = table.add(one, limits, true, false);

  epochs.flush({.kind = FlushScope::Kind::kModel, .name = "m"});

  EXPECT_FALSE(table.join(*fingerprint("a"), limits, true));
  const auto next = table.add(flight(fingerprint("a")), limits, true, false);
  EXPECT_EQ(next.second, FlightTable::Added::kOpen);
}

TEST_F(FlightTableTest, AReplacedFlightIsNotJoinedAndNotKept) {
  const auto old = flight(fingerprint("a"));
  const auto added = table.add(old, limits, true, false);

  const auto fresh = flight(fingerprint("a"));
  const auto replaced = table.add(fresh, limits, true, true);

  EXPECT_EQ(replaced.second, FlightTable::Added::kOpen);
  EXPECT_EQ(&table.join(*fingerprint("a"), limits, true).flight(), fresh.get());
  EXPECT_FALSE(table.keeps(*old));
  EXPECT_TRUE(table.keeps(*fresh));
}

TEST_F(FlightTableTest, WhatOneSubscriberForbidsAnotherMayAllow) {
  const auto one = flight(fingerprint("a"));
  const auto added = table.add(one, limits, false, false);
  EXPECT_FALSE(table.keeps(*one));

  const Subscription joined = table.join(*fingerprint("a"), limits, true);

  EXPECT_TRUE(table.keeps(*one));
}

// R-COAL-4
TEST_F(FlightTableTest, AKeyGetsASecondFlightAndNoThird) {
  const auto old = flight(fingerprint("a"));
  const auto added = table.add(old, limits, true, false);
  const auto candidate = flight(fingerprint("a"));

  const Subscription first = table.second(*old, candidate, limits);
  const Subscription other = table.second(*old, flight(fingerprint("a")), limits);
  const Subscription fresh = table.join(*fingerprint("a"), limits, true);

  EXPECT_EQ(&first.flight(), candidate.get());
  EXPECT_EQ(&other.flight(), candidate.get());
  EXPECT_EQ(&fresh.flight(), candidate.get());
  EXPECT_FALSE(table.second(*candidate, flight(fingerprint("a")), limits));
}

TEST_F(FlightTableTest, CountsEveryoneInAndOut) {
  const auto one = flight(fingerprint("a"));
  auto added = table.add(one, limits, true, false);
  Subscription joined = table.join(*fingerprint("a"), limits, true);
  EXPECT_EQ(table.subscribers(), 2U);
  EXPECT_FALSE(table.close_if_empty(*one));

  joined = {};
  added.first = {};

  EXPECT_EQ(table.subscribers(), 0U);
  EXPECT_EQ(table.subscribers_ever(*one), 2U);
  EXPECT_TRUE(table.close_if_empty(*one));
  EXPECT_FALSE(table.join(*fingerprint("a"), limits, true));
}

// More by MLXS_COLLISIONS.
int collisions() {
  const char* given = std::getenv("MLXS_COLLISIONS");
  return given == nullptr ? 100'000 : std::atoi(given);
}

// R-CACHE-2: digests forced to be equal.
TEST_F(FlightTableTest, EqualDigestsOfDifferentRequestsNeverMeet) {
  std::vector<FingerprintPtr> prints;
  for (int k = 0; k < 8; ++k) {
    auto forced = std::make_shared<Fingerprint>(*fingerprint(std::to_string(k)));
    forced->digest = {};
    prints.push_back(std::move(forced));
  }
  std::mt19937 random{1};
  std::vector<Subscription> held;
  std::size_t met = 0;

  for (int step = 0; step < collisions(); ++step) {
    const FingerprintPtr& wanted = prints[random() % prints.size()];
    Subscription got = table.join(*wanted, limits, true);
    if (got) ++met;
    if (!got && random() % 4 == 0)
      got = table.add(flight(wanted), limits, true, random() % 8 == 0).first;
    if (got) {
      ASSERT_EQ(got.flight().fingerprint()->canonical, wanted->canonical);
      held.push_back(std::move(got));
    }
    if (held.size() > 16) {
      Flight& gone = held[random() % held.size()].flight();
      table.close(gone);
      std::erase_if(held, [&](const Subscription& one) { return &one.flight() == &gone; });
    }
  }

  EXPECT_GT(met, 100U);
}

}  // namespace
}  // namespace mlxs::gateway
