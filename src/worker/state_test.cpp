#include "worker/worker_fixture.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <string>

namespace mlxs::worker {
namespace {

namespace json = boost::json;

json::value next_state(EventStream& stream) { return json::parse(stream.next().value()); }

TEST(State, TellsAtOnceWhatAWorkerIs) {
  RunningWorker worker{{.context_tokens_max = 1024}, {.sequences_max = 8, .waiting_max = 9}};
  worker.wait_ready();

  EventStream stream{worker.address(), "GET", "/internal/state"};
  const json::value state = next_state(stream);

  EXPECT_EQ(stream.headers().get("cache-control"), "no-store");
  EXPECT_TRUE(state.at("ready").as_bool());
  EXPECT_EQ(state.at("model").as_string(), "fake");
  EXPECT_EQ(state.at("pid").as_int64(), ::getpid());
  EXPECT_EQ(state.at("sequences_max").as_int64(), 8);
  EXPECT_EQ(state.at("waiting_max").as_int64(), 9);
  EXPECT_EQ(state.at("context_tokens_max").as_int64(), 1024);
  EXPECT_EQ(state.at("running").as_int64(), 0);
  EXPECT_EQ(state.at("waiting").as_int64(), 0);
  EXPECT_EQ(state.at("blocks_free"), state.at("blocks_total"));
  EXPECT_GT(state.at("memory_bytes").as_int64(), 1'000'000);
  EXPECT_EQ(state.at("stalled_ms").as_int64(), 0);
  for (const char* what : {"weights", "tokenizer", "template"})
    EXPECT_EQ(state.at("digests").at(what).as_string().size(), 64U) << what;
  for (const char* name : {"steps",
                           "queued_prefill_tokens",
                           "step_ms_p50",
                           "step_ms_p95",
                           "weights_bytes",
                           "kv_bytes",
                           "buffers",
                           "blocks_cached",
                           "window_blocks_total",
                           "window_blocks_free",
                           "prefix_queries",
                           "prefix_hits"})
    EXPECT_TRUE(state.at(name).is_number()) << name;
}

TEST(State, ShowsWorkComeAndGoInFewEvents) {
  Gate gate;
  gate.close_after(30);
  RunningWorker worker{{.endless = true,
                        .step = Milliseconds{5},
                        .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  EventStream stream{worker.address(), "GET", "/internal/state"};
  const auto steps_before = next_state(stream).at("steps").as_int64();
  const TimePoint begin = Clock::now();

  EventStream answer{worker.address(),
                     "POST",
                     "/v1/completions",
                     R"({"model":"fake","prompt":"x","stream":true,"max_tokens":60})"};
  json::value state = next_state(stream);
  int events = 1;
  for (; state.at("running").as_int64() == 0; ++events) state = next_state(stream);
  gate.open();
  for (; state.at("running").as_int64() != 0; ++events) state = next_state(stream);

  EXPECT_GE(state.at("steps").as_int64(), steps_before + 60);
  // At most one in 50 ms, though every step changes something.
  const auto spent = std::chrono::duration_cast<Milliseconds>(Clock::now() - begin);
  EXPECT_LE(events, spent.count() / 50 + 2);
}

TEST(State, IsSentEverySecondWithoutAnyChange) {
  RunningWorker worker;
  worker.wait_ready();
  EventStream stream{worker.address(), "GET", "/internal/state"};
  (void)stream.next();

  // A machine that stands still may stretch some of the gaps.
  Clock::duration shortest = Clock::duration::max();
  for (int k = 0; k < 20 && shortest >= Milliseconds{2'000}; ++k) {
    const TimePoint begin = Clock::now();
    ASSERT_TRUE(stream.next());
    shortest = std::min(shortest, Clock::now() - begin);
  }

  EXPECT_LT(shortest, Milliseconds{2'000});
}

TEST(State, EndsWithTheWorker) {
  RunningWorker worker;
  worker.wait_ready();
  EventStream stream{worker.address(), "GET", "/internal/state"};

  worker.app().stop();
  const auto events = stream.rest();

  ASSERT_FALSE(events.empty());
  EXPECT_TRUE(json::parse(events.back()).at("draining").as_bool());
  EXPECT_EQ(worker.wait_end(), 0);
}

}  // namespace
}  // namespace mlxs::worker
