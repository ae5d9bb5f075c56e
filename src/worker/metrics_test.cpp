#include "worker/metrics.h"

#include "worker/worker_fixture.h"

#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mlxs::worker {
namespace {

constexpr const char* kCompletions = "/v1/completions";

/// Sum over the series of that name whose labels hold `label`.
double value_of(std::string_view exposition, std::string_view name, std::string_view label = {}) {
  double sum = 0;
  while (!exposition.empty()) {
    const std::string_view line = exposition.substr(0, exposition.find('\n'));
    exposition.remove_prefix(std::min(line.size() + 1, exposition.size()));
    const bool named = line.starts_with(name) && line.size() > name.size() &&
                       (line[name.size()] == '{' || line[name.size()] == ' ');
    if (named && line.find(label) != std::string_view::npos)
      sum += std::atof(std::string{line.substr(line.rfind(' '))}.c_str());
  }
  return sum;
}

class WorkerMetrics : public testing::Test {
 protected:
  WorkerMetrics()
      : worker_({.endless = true, .before_step = [this](std::uint64_t) { gate_.pass(); }},
                {.sequences_max = 1, .waiting_max = 1}) {
    worker_.wait_ready();
  }
  ~WorkerMetrics() override { gate_.open(); }
  double value(std::string_view name, std::string_view label = {}) {
    return value_of(get(worker_, "/metrics").body, name, label);
  }

  Gate gate_;
  RunningWorker worker_;
};

TEST_F(WorkerMetrics, CountWhatWasGenerated) {
  const auto response =
      post(worker_, kCompletions, R"({"model":"fake","prompt":"abc","max_tokens":5})");
  ASSERT_EQ(response.status, 200);

  // Three bytes and the token that texts begin with.
  EXPECT_EQ(value("vllm:prompt_tokens_total"), 4);
  EXPECT_EQ(value("vllm:generation_tokens_total"), 5);
  EXPECT_EQ(value("vllm:request_success_total", "finished_reason=\"length\""), 1);
  EXPECT_EQ(value("vllm:time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(value("vllm:e2e_request_latency_seconds_count"), 1);
  EXPECT_EQ(value("vllm:request_prompt_tokens_sum"), 4);
  EXPECT_EQ(value("vllm:request_generation_tokens_sum"), 5);
  EXPECT_GT(value("mlx_step_seconds_count"), 0);
  EXPECT_EQ(value("mlx_step_seconds_count"), value("mlx_batch_size_count"));
  EXPECT_GE(value("vllm:iteration_tokens_total_sum"), 8);
  EXPECT_GT(value("mlx_model_load_seconds"), 0);
}

TEST(WorkerMetricsOfPrefixes, CountWhatWasLookedUpAndFound) {
  for (const bool prefix_cache : {true, false}) {
    RunningWorker worker{{.endless = true}, {.prefix_cache = prefix_cache}};
    worker.wait_ready();
    const char* body = R"({"model":"fake","prompt":"a prompt of some length","max_tokens":5})";
    ASSERT_EQ(post(worker, kCompletions, body).status, 200);
    const auto second = json_of(post(worker, kCompletions, body));

    // 24 tokens in blocks of four, the last of which is computed again.
    const auto& details = second.at("usage").at("prompt_tokens_details");
    EXPECT_EQ(details.at("cached_tokens").as_int64(), prefix_cache ? 20 : 0);
    const std::string exposition = get(worker, "/metrics").body;
    EXPECT_EQ(value_of(exposition, "vllm:prefix_cache_queries_total"), prefix_cache ? 48 : 0);
    EXPECT_EQ(value_of(exposition, "vllm:prefix_cache_hits_total"), prefix_cache ? 20 : 0);
    EXPECT_EQ(value_of(exposition, "mlx_prefix_cache_blocks") > 0, prefix_cache);
  }
}

TEST_F(WorkerMetrics, MeasureTheTimeBetweenTokens) {
  gate_.close_after(1);
  EventStream stream{worker_.address(),
                     "POST",
                     kCompletions,
                     R"({"model":"fake","prompt":"abc","max_tokens":5,"stream":true})"};
  ASSERT_TRUE(stream.next());
  const TimePoint first = Clock::now();
  while (Clock::now() - first < Milliseconds{5}) std::this_thread::yield();
  gate_.open();
  ASSERT_FALSE(stream.rest().empty());

  // Tokens that arrive together count as one gap, so there may be fewer than four.
  EXPECT_GE(value("vllm:inter_token_latency_seconds_count"), 1);
  EXPECT_GE(value("vllm:inter_token_latency_seconds_sum"), 0.005);
}

TEST_F(WorkerMetrics, GaugesShowWhatRunsAndWaits) {
  gate_.close();
  const auto ask = [this] {
    EXPECT_EQ(
        post(worker_, kCompletions, R"({"model":"fake","prompt":"abc","max_tokens":2})").status,
        200);
  };
  std::jthread first{ask};
  gate_.wait_held();
  std::jthread second{ask};

  EXPECT_TRUE(eventually([&] { return value("vllm:num_requests_waiting") == 1; }));
  EXPECT_EQ(value("vllm:num_requests_running"), 1);
  EXPECT_GT(value("vllm:kv_cache_usage_perc"), 0);
  gate_.open();
  EXPECT_TRUE(eventually([&] { return value("vllm:num_requests_running") == 0; }));
  EXPECT_EQ(value("vllm:kv_cache_usage_perc"), 0);
}

TEST_F(WorkerMetrics, CountRefusalsByReason) {
  (void)post(worker_, kCompletions, R"({"model":"other","prompt":"abc"})");
  (void)post(worker_, kCompletions, "{");

  EXPECT_EQ(value("mlx_rejected_total", "reason=\"model_not_found\""), 1);
  EXPECT_EQ(value("mlx_rejected_total", "reason=\"invalid_request\""), 1);
}

TEST_F(WorkerMetrics, CountAnswersThatNobodyWaitedFor) {
  gate_.close_after(2);
  {
    EventStream stream{worker_.address(),
                       "POST",
                       kCompletions,
                       R"({"model":"fake","prompt":"abc","stream":true})"};
    ASSERT_TRUE(stream.next());
  }

  EXPECT_TRUE(eventually(
      [&] { return value("vllm:request_success_total", "finished_reason=\"abort\"") == 1; }));
}

TEST_F(WorkerMetrics, CountAnswersThatFailed) {
  gate_.close();
  (void)post(worker_,
             kCompletions,
             R"({"model":"fake","prompt":"abc"})",
             {{"x-request-timeout-ms", "300"}});
  gate_.open();

  EXPECT_EQ(value("vllm:request_success_total", "finished_reason=\"error\""), 1);
  EXPECT_EQ(value("mlx_rejected_total", "reason=\"deadline\""), 1);
}

TEST(WorkerMetricsOfWindows, CountBlocksInUse) {
  Gate gate;
  RunningWorker worker{{.windows = {{.tokens = 8, .blocks_total = 4096}},
                        .endless = true,
                        .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  gate.close();
  std::jthread client{[&] {
    (void)post(worker, kCompletions, R"({"model":"fake","prompt":"abcdefg","max_tokens":1})");
  }};
  gate.wait_held();
  // Eight tokens in blocks of four.
  EXPECT_EQ(value_of(get(worker, "/metrics").body, "mlx_window_blocks_used"), 2);
  EventStream stream{worker.address(), "GET", "/internal/state"};
  const auto state = boost::json::parse(stream.next().value());
  EXPECT_EQ(state.at("window_blocks_free"), 4094);
  EXPECT_EQ(state.at("window_blocks_total"), 4096);
  gate.open();
  client.join();

  EXPECT_EQ(value_of(get(worker, "/metrics").body, "mlx_window_blocks_used"), 0);
}

TEST(WorkerMetricsWithFewBlocks, CountPreemptions) {
  Gate gate;
  gate.close();
  RunningWorker worker{{.context_tokens_max = 64,
                        .blocks_total = 20,
                        .endless = true,
                        .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  {
    std::vector<std::jthread> clients;
    for (int k = 0; k < 4; ++k)
      clients.emplace_back([&, k] {
        // Each its own, since like ones would share their blocks.
        const std::string body =
            fmt::format(R"({{"model":"fake","prompt":"{}abc","max_tokens":50}})", k);
        EXPECT_EQ(post(worker, kCompletions, body).status, 200);
      });
    // The four run together.
    const auto there = [&] {
      const std::string exposition = get(worker, "/metrics").body;
      return value_of(exposition, "vllm:num_requests_running") +
             value_of(exposition, "vllm:num_requests_waiting");
    };
    EXPECT_TRUE(eventually([&] { return there() == 4; }));
    gate.open();
  }

  EXPECT_GT(value_of(get(worker, "/metrics").body, "vllm:num_preemptions_total"), 0);
}

}  // namespace
}  // namespace mlxs::worker
