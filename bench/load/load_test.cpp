#include "bench/load/load.h"

#include "bench/load/answer.h"
#include "bench/load/histogram.h"
#include "bench/load/plan.h"
#include "http/test_server.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <utility>

namespace mlxs::bench {
namespace {

namespace asio = boost::asio;

TEST(Plan, RepeatsExactlyTheShareAskedFor) {
  PlanOptions options;
  options.duplicates = 0.9;
  Plan plan{options};
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_LE(plan.take(i), i / 10);

  EXPECT_EQ(plan.distinct(), 100);
}

TEST(Plan, IsAFunctionOfItsSeed) {
  PlanOptions options;
  const Plan one{options};
  const Plan same{options};
  options.seed = 4;
  const Plan other{options};

  EXPECT_EQ(one.body(7), same.body(7));
  EXPECT_NE(one.body(7), other.body(7));
  EXPECT_NE(one.body(7), one.body(8));
}

TEST(Plan, MixesLengthsAndSomeClientsLeave) {
  PlanOptions options;
  options.mixed = true;
  const Plan plan{options};
  std::set<std::size_t> lengths;
  int left = 0;
  for (std::uint64_t prompt = 0; prompt < 1000; ++prompt) {
    lengths.insert(plan.body(prompt).size());
    left += plan.is_left(prompt) ? 1 : 0;
  }

  EXPECT_GT(lengths.size(), 200u);
  EXPECT_NEAR(left, 100, 40);
}

TEST(AnswerReader, ReadsOurFramesAndThoseOfPython) {
  for (const char* blank : {"", " "}) {
    AnswerReader reader;
    const auto event = [blank](std::string text) {
      for (std::size_t at = 0; (at = text.find(':', at)) != std::string::npos; at += 2)
        text.insert(at + 1, blank);
      return text;
    };
    EXPECT_FALSE(reader.take(event(
        R"({"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]})")));
    EXPECT_TRUE(reader.take(event(R"({"choices":[{"delta":{"content":"a \"b\""}}]})")));
    EXPECT_FALSE(reader.take(event(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})")));
    EXPECT_FALSE(
        reader.take(event(R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}})")));
    EXPECT_FALSE(reader.take("[DONE]"));

    EXPECT_TRUE(reader.finished() && reader.done() && !reader.failed());
    EXPECT_EQ(reader.beginning(), R"(a \"b\")");
    EXPECT_EQ(reader.prompt_tokens(), 3);
    EXPECT_EQ(reader.completion_tokens(), 2);
  }
}

TEST(Histogram, IsRightWithinOnePercent) {
  Histogram histogram;
  for (std::int64_t ms = 1; ms <= 1000; ++ms) histogram.add(ms * 1'000'000);

  EXPECT_NEAR(histogram.quantile_ms(0.5), 500, 5);
  EXPECT_NEAR(histogram.quantile_ms(0.99), 990, 10);
  EXPECT_EQ(histogram.max_ms(), 1000);
  EXPECT_EQ(histogram.mean_ms(), 500.5);
}

asio::awaitable<void> stream(http::Exchange& exchange, std::string text) {
  http::Headers headers;
  headers.add("content-type", "text/event-stream");
  headers.add("x-mlx-cache", "miss");
  (void)co_await exchange.start_stream(200, std::move(headers));
  const std::string frames = fmt::format(
      "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n"
      "data: {{\"choices\":[{{\"finish_reason\":\"stop\"}}]}}\n\n"
      "data: {{\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":1}}}}\n\ndata: [DONE]\n\n",
      text);
  (void)co_await exchange.write(frames);
  (void)co_await exchange.finish();
}

std::string marker_of(const http::Request& request) {
  return request.body.substr(request.body.find('#'), 17);
}

LoadOptions options_for(const http::TestServer& server) {
  LoadOptions options;
  options.server = server.address();
  options.users = 4;
  options.requests = 40;
  options.check = Check::kEcho;
  options.plan.marked = true;
  return options;
}

TEST(Load, CountsAnswersOfEveryUser) {
  http::TestServer server{
      [](http::Exchange& exchange) { return stream(exchange, marker_of(exchange.request())); }};

  const auto report = Load{options_for(server)}.run();

  EXPECT_EQ(report.at("succeeded").as_uint64(), 40);
  EXPECT_EQ(report.at("wrong_answers").as_uint64(), 0);
  EXPECT_TRUE(report.at("failures").as_object().empty());
  EXPECT_EQ(report.at("x_mlx_cache").as_object().at("miss").as_uint64(), 40);
  EXPECT_EQ(report.at("first_token").as_object().at("count").as_uint64(), 40);
  EXPECT_EQ(server.stats().connections_accepted, 4);
}

TEST(Load, SeesAnAnswerThatIsAnothers) {
  std::string previous = "#0000000000000000";
  http::TestServer server{[&previous](http::Exchange& exchange) {
    return stream(exchange, std::exchange(previous, marker_of(exchange.request())));
  }};

  const auto report = Load{options_for(server)}.run();

  EXPECT_EQ(report.at("wrong_answers").as_uint64(), 40);
  EXPECT_EQ(report.at("succeeded").as_uint64(), 0);
}

asio::awaitable<void> refuse(http::Exchange& exchange, int status) {
  http::Response response;
  response.status = status;
  (void)co_await exchange.send(std::move(response));
}

TEST(Load, ComparesWithTheAnswersOfAnEarlierRun) {
  std::string text = "same";
  http::TestServer server{[&text](http::Exchange& exchange) { return stream(exchange, text); }};
  LoadOptions options = options_for(server);
  options.check = Check::kEqual;
  options.answers = testing::TempDir() + "answers-of-load-test";
  std::filesystem::remove(options.answers);

  const auto first = Load{options}.run();
  const auto again = Load{options}.run();
  server.on_loop([&text](http::Server&) {
    text = "another";
    return 0;
  });
  const auto other = Load{options}.run();
  std::filesystem::remove(options.answers);

  EXPECT_EQ(first.at("wrong_answers").as_uint64(), 0);
  EXPECT_EQ(again.at("wrong_answers").as_uint64(), 0);
  EXPECT_EQ(other.at("wrong_answers").as_uint64(), 40);
}

TEST(Load, TellsRefusalsFromFailures) {
  int count = 0;
  http::TestServer server{[&count](http::Exchange& exchange) {
    return refuse(exchange, ++count % 2 == 0 ? 429 : 500);
  }};
  LoadOptions options = options_for(server);
  options.users = 1;
  options.requests = 4;

  const auto report = Load{std::move(options)}.run();

  EXPECT_EQ(report.at("refused").as_uint64(), 2);
  EXPECT_EQ(report.at("failures").as_object().at("status 500").as_uint64(), 2);
}

TEST(Load, OpenLoopIssuesAtItsRateWhateverTheAnswersTake) {
  http::TestServer server{
      [](http::Exchange& exchange) { return stream(exchange, marker_of(exchange.request())); }};
  LoadOptions options = options_for(server);
  options.rate = 2000;
  options.requests = 100;

  const auto report = Load{std::move(options)}.run();

  EXPECT_EQ(report.at("succeeded").as_uint64(), 100);
}

}  // namespace
}  // namespace mlxs::bench
