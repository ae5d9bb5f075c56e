// Coalescing as clients see it: a whole gateway, a scripted worker, real sockets.
#include "gateway/testing/streams.h"
#include "gateway/testing/test_gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::gateway {
namespace {

using namespace script;
using testing::HasSubstr;
using testing::Not;

/// With one event loop and with several.
class Coalescing : public testing::TestWithParam<int> {
 protected:
  [[nodiscard]] static std::string yaml(const std::string& more = "") {
    return more + "threads: " + std::to_string(GetParam()) + "\n";
  }
};

INSTANTIATE_TEST_SUITE_P(Loops, Coalescing, testing::Values(1, 4), [](const auto& instance) {
  return "On" + std::to_string(instance.param);
});

// R-COAL-1
TEST_P(Coalescing, AThousandEqualStreamsAreOneGeneration) {
  NativePair pair{yaml("limits: { in_flight: 8 }\n")};
  pair.worker.set_script(gated());

  Clients clients = joined(pair.gateway, 1000);
  pair.worker.open("a");

  for (const auto& client : clients) {
    EXPECT_EQ(read_text(*client), " world");
    EXPECT_TRUE(client->complete());
  }
  EXPECT_EQ(pair.worker.requests(), 1U);
  EXPECT_TRUE(pair.gateway.wait_metric(
      R"(mlx_cache_requests_total{layer="coalescing",result="coalesced"})", 999));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_coalesce_flights_total", 1));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_coalesce_subscribers_sum", 1000));
  EXPECT_TRUE(
      pair.gateway.wait_metric(R"(mlx_saved_tokens_total{by="coalesce",kind="prompt"})", 2997));
  EXPECT_TRUE(
      pair.gateway.wait_metric(R"(mlx_saved_tokens_total{by="coalesce",kind="output"})", 1998));
}

// R-COAL-2
TEST_P(Coalescing, TheFirstOnesLeavingHurtsNobody) {
  NativePair pair{yaml()};
  pair.worker.set_script(gated());
  Clients clients = joined(pair.gateway, 8);

  for (std::size_t k = 0; k < 4; ++k) clients[k]->close();
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_client_disconnects_total", 4));
  pair.worker.open("a");

  for (std::size_t k = 4; k < 8; ++k) {
    EXPECT_EQ(read_text(*clients[k]), " world");
    EXPECT_TRUE(clients[k]->complete());
  }
  EXPECT_EQ(pair.worker.requests(), 1U);
}

// R-COAL-2
TEST_P(Coalescing, TheLastOnesLeavingCancelsTheWorker) {
  NativePair pair{yaml()};
  pair.worker.set_script(gated());
  Clients clients = joined(pair.gateway, 3);

  for (const auto& client : clients) client->close();

  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

TEST_P(Coalescing, WhoComesBackWithinTheLingerFindsTheFlight) {
  NativePair pair{yaml("timeouts: { linger_ms: 60000 }\n")};
  pair.worker.set_script(gated());
  joined(pair.gateway, 1).front()->close();
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_client_disconnects_total", 1));

  Clients clients = joined(pair.gateway, 1);
  pair.worker.open("a");

  EXPECT_EQ(read_text(*clients.front()), " world");
  EXPECT_EQ(pair.worker.requests(), 1U);
}

// R-COAL-6
TEST_P(Coalescing, EachKeepsItsOwnShapeIdAndUsage) {
  NativePair pair{yaml()};
  pair.worker.set_script(gated());
  Clients plain = joined(pair.gateway, 1);
  Clients with_usage =
      joined(pair.gateway, 2, R"(,"stream":true,"stream_options":{"include_usage":true})");
  Clients with_ids = joined(pair.gateway, 2, R"(,"stream":true,"mlxs":{"token_ids":true})");
  Client whole{pair.gateway.api()};
  whole.post("/v1/chat/completions",
             chat_body(R"(,"user":"somebody")"),
             headers_of({{"x-request-id", "mine"}}));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_flight_subscribers", 6));
  pair.worker.open("a");

  EXPECT_THAT(rest_of(*plain[0]), Not(HasSubstr("usage")));
  for (const auto& client : with_usage)
    EXPECT_THAT(rest_of(*client), HasSubstr(R"("cached_tokens":3)"));
  for (const auto& client : with_ids)
    EXPECT_THAT(rest_of(*client), HasSubstr(R"("token_ids":[1])"));
  const Answer answer = whole.read();
  EXPECT_EQ(answer.header("x-request-id"), "mine");
  EXPECT_EQ(answer.json().at("choices").at(0).at("message").at("content"), "Hello world");
  EXPECT_EQ(answer.json().at("usage").at("completion_tokens"), 2);
  EXPECT_EQ(pair.worker.requests(), 1U);
}

// R-COAL-6
TEST_P(Coalescing, ADeadlineIsItsOwnersOnly) {
  NativePair pair{yaml()};
  pair.worker.set_script(gated());
  Clients patient = joined(pair.gateway, 1);
  Client hasty{pair.gateway.api()};
  hasty.post(
      "/v1/chat/completions", chat_body(kStream), headers_of({{"x-request-timeout-ms", "50"}}));

  const Answer early = hasty.read();
  pair.worker.open("a");

  EXPECT_THAT(early.body, HasSubstr(R"("code":"deadline_exceeded")"));
  EXPECT_EQ(read_text(*patient.front()), " world");
  EXPECT_TRUE(patient.front()->complete());
  EXPECT_EQ(pair.worker.requests(), 1U);
}

// R-COAL-5
TEST_P(Coalescing, AllGetTheSameErrorAfterTheFlightsOwnRetries) {
  NativePair pair{yaml()};
  pair.worker.set_script(
      {gate("a"), answer(503, R"({"error":{"message":"full","code":"unavailable"}})")});
  Clients clients;
  for (int k = 0; k < 6; ++k) {
    clients.push_back(std::make_unique<Client>(pair.gateway.api()));
    clients.back()->post("/v1/chat/completions", chat_body(kStream));
  }
  EXPECT_EQ(pair.worker.request(1).method, "POST");
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_flight_subscribers", 6));
  pair.worker.open("a");

  for (const auto& client : clients) {
    const Answer answer = client->read();
    EXPECT_EQ(answer.status, 503) << answer.body;
    // Five seconds, half as much or up to half as much again.
    const int seconds = std::stoi(answer.header("retry-after"));
    EXPECT_GE(seconds, 2);
    EXPECT_LE(seconds, 8);
  }
  EXPECT_EQ(pair.worker.requests(), 3U);
}

// R-COAL-4
TEST_P(Coalescing, AFlightWithoutATokenGetsOneSecondForAllWhoWait) {
  NativePair pair{yaml("    sharing: { coalescing: { join_timeout_ms: 40 } }\n")};
  pair.worker.enqueue({gate("a"), token("slow"), finish(), usage(1, 1), done()});
  pair.worker.enqueue({gate("b"), token("quick"), finish(), usage(1, 1), done()});
  Client first{pair.gateway.api()};
  first.post("/v1/chat/completions", chat_body(kStream));
  EXPECT_EQ(pair.worker.request(1).method, "POST");
  Clients waiting;
  for (int k = 0; k < 5; ++k) {
    waiting.push_back(std::make_unique<Client>(pair.gateway.api()));
    waiting.back()->post("/v1/chat/completions", chat_body(kStream));
  }
  EXPECT_EQ(pair.worker.request(2).method, "POST");
  Client late{pair.gateway.api()};
  late.post(
      "/v1/chat/completions", chat_body(kStream), headers_of({{"x-request-timeout-ms", "200"}}));
  EXPECT_EQ(late.read().status, 504);  // Several more join time-outs have passed.
  pair.worker.open("b");

  for (const auto& client : waiting) {
    EXPECT_EQ(client->read_head().status, 200);
    EXPECT_EQ(read_text(*client), "quick");
  }
  pair.worker.open("a");
  EXPECT_EQ(first.read_head().status, 200);
  EXPECT_EQ(read_text(first), "slow");
  EXPECT_EQ(pair.worker.requests(), 2U);
}

/// Reports step after step for `time`, each once the gateway knows of the last. When it came to
/// know of them, with `begin` in front.
std::vector<TimePoint> report_steps(NativePair& pair, TimePoint begin, Milliseconds time) {
  std::vector<TimePoint> known{begin};
  while (known.back() - begin < time) {
    const auto steps = static_cast<std::int64_t>(known.size());
    pair.worker.set_state({{"ready", true}, {"steps", steps}, {"running", 1}, {"waiting", 0}});
    EXPECT_TRUE(eventually([&] {
      const auto workers = get(pair.gateway.admin(), "/admin/v1/workers").json().at("workers");
      return workers.at(0).at("steps") == steps;
    }));
    known.push_back(Clock::now());
  }
  return known;
}

/// The longest that the gateway can have been without progress: a step came after its forerunner
/// was known.
Clock::duration longest_rest(const std::vector<TimePoint>& known) {
  Clock::duration longest{0};
  for (std::size_t k = 1; k < known.size(); ++k)
    longest = std::max(longest, known[k] - known[k < 2 ? 0 : k - 2]);
  return longest;
}

// R-COAL-4: paused while the worker reports progress, and for ProgressClock::kBeat after.
TEST_P(Coalescing, AWorkerThatStepsIsWaitedFor) {
  constexpr Milliseconds kJoinTimeout{400};
  for (;;) {
    NativePair pair{yaml("    sharing: { coalescing: { join_timeout_ms: 400 } }\n")};
    pair.worker.set_script({gate("a"), token("late"), finish(), usage(1, 1), done()});
    Clients clients;
    const TimePoint begin = Clock::now();
    for (int k = 0; k < 3; ++k) {
      clients.push_back(std::make_unique<Client>(pair.gateway.api()));
      clients.back()->post("/v1/chat/completions", chat_body(kStream));
    }
    EXPECT_TRUE(pair.gateway.wait_metric("mlx_flight_subscribers", 3));

    std::vector<TimePoint> known = report_steps(pair, begin, 2 * kJoinTimeout);
    const std::size_t requests = pair.worker.requests();
    known.push_back(Clock::now());
    pair.worker.open("a");

    for (const auto& client : clients) {
      EXPECT_EQ(client->read_head().status, 200);
      EXPECT_EQ(read_text(*client), "late");
    }
    // Where this machine stood still for a join time-out, a second flight is right: once more.
    if (longest_rest(known) >= kJoinTimeout) continue;
    EXPECT_EQ(requests, 1U);
    break;
  }
}

// R-COAL-6: overflow bypasses coalescing, never fails.
TEST_P(Coalescing, BeyondTheSubscribersOfAFlightRequestsGoAlone) {
  NativePair pair{yaml("limits: { subscribers: 2 }\n")};
  pair.worker.set_script(gated());
  Clients two = joined(pair.gateway, 2);

  Client third{pair.gateway.api()};
  third.post("/v1/chat/completions", chat_body(kStream));
  const Answer head = third.read_head();
  pair.worker.open("a");

  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("x-mlx-cache"), "bypass");
  EXPECT_EQ(read_text(third), "Hello world");
  EXPECT_EQ(pair.worker.requests(), 2U);
}

TEST_P(Coalescing, BeyondTheNumberOfFlightsRequestsGoAlone) {
  NativePair pair{yaml("limits: { flights: 1 }\n")};
  pair.worker.set_script(gated());
  Clients first = joined(pair.gateway, 1);

  Client other{pair.gateway.api()};
  other.post("/v1/chat/completions", chat_body(R"(,"stream":true,"seed":1)"));
  const Answer head = other.read_head();
  pair.worker.open("a");

  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("x-mlx-cache"), "bypass");
  EXPECT_EQ(read_text(other), "Hello world");
}

TEST_P(Coalescing, ALongLogTakesNoNewSubscribersAndIsNotKept) {
  NativePair pair{yaml("limits: { flight_log_bytes: 4KiB }\n")};
  pair.worker.set_script(
      {token("Hello"), token(std::string(8000, 'x')), gate("a"), finish(), usage(1, 2), done()});
  Clients first = joined(pair.gateway, 1);
  EXPECT_THAT(first.front()->next_event().value_or(""), HasSubstr("xxx"));

  Clients second = joined(pair.gateway, 1);
  pair.worker.open("a");

  (void)read_text(*first.front());
  (void)read_text(*second.front());
  EXPECT_EQ(pair.worker.requests(), 2U);
  EXPECT_EQ(pair.gateway.chat(kStream).header("x-mlx-cache"), "miss");
}

TEST_P(Coalescing, ASlowReaderCostsOthersNothingAndGetsEverything) {
  NativePair pair{yaml()};
  Script steps{token("Hello")};
  for (int k = 0; k < 40; ++k) steps.push_back(token(std::string(50'000, 'x')));
  for (const Step& step : {finish(), usage(1, 41), done()}) steps.push_back(step);
  pair.worker.set_script(steps);
  Client slow{pair.gateway.api(), 4096};
  slow.post("/v1/chat/completions", chat_body(kStream));
  Clients quick;
  for (int k = 0; k < 3; ++k) {
    quick.push_back(std::make_unique<Client>(pair.gateway.api()));
    quick.back()->post("/v1/chat/completions", chat_body(kStream));
  }

  for (const auto& client : quick) {
    EXPECT_EQ(client->read_head().status, 200);
    EXPECT_EQ(read_text(*client).size(), 5U + 40U * 50'000U);
  }
  EXPECT_EQ(slow.read_head().status, 200);
  EXPECT_EQ(read_text(slow).size(), 5U + 40U * 50'000U);
}

}  // namespace
}  // namespace mlxs::gateway
