#include "http/test_server.h"
#include "worker/lifeline.h"
#include "worker/worker_fixture.h"

#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <string>

namespace mlxs::worker {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kStreamed =
    R"({"model":"fake","prompt":"x","temperature":0,"stream":true,"max_tokens":40})";
constexpr const char* kEndlessStream =
    R"({"model":"fake","prompt":"x","temperature":0,"stream":true})";

TEST(Loading, AcceptsAtOnceAndSaysThatItLoads) {
  Gate gate;
  gate.close();
  RunningWorker worker{{.before_load = [&] { gate.pass(); }}};

  const auto health = get(worker, "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.body, R"({"status":"loading"})");
  const auto refused = post(worker, kCompletions, R"({"model":"fake","prompt":"x"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(error_of(refused), "unavailable ");
  EXPECT_EQ(refused.headers.get("retry-after"), "1");
  EXPECT_EQ(get(worker, "/v1/models").status, 200);
  EventStream state{worker.address(), "GET", "/internal/state"};
  const json::value event = json::parse(state.next().value());
  EXPECT_FALSE(event.at("ready").as_bool());
  EXPECT_TRUE(event.at("load_progress").is_number());
  gate.open();
}

TEST(Loading, ShowsItsProgressUntilItIsReady) {
  RunningWorker worker{{.load = Milliseconds{300}}};
  EventStream stream{worker.address(), "GET", "/internal/state"};

  json::value state;
  do state = json::parse(stream.next().value());
  while (!state.at("ready").as_bool());

  EXPECT_FALSE(state.as_object().contains("load_progress"));
}

TEST(Loading, ShowsHowMuchOfThePullIsThere) {
  Gate gate;
  gate.close();
  RunningWorker worker{{.fetch = [&](const auto& note) -> Result<void> {
    note({.bytes = 30, .bytes_total = 120});
    gate.pass();
    return {};
  }}};
  gate.wait_held();

  EventStream stream{worker.address(), "GET", "/internal/state"};
  json::value state = json::parse(stream.next().value());
  EXPECT_EQ(state.at("pull").at("bytes").as_int64(), 30);
  EXPECT_EQ(state.at("pull").at("bytes_total").as_int64(), 120);
  gate.open();
  while (!state.at("ready").as_bool()) state = json::parse(stream.next().value());

  EXPECT_FALSE(state.as_object().contains("pull"));
}

TEST(Loading, AHubThatIsAwayIsWorthAnotherStartAndARefusalIsNot) {
  RunningWorker away{
      {.fetch = [](const auto&) { return fail(ErrorCode::kUnavailable, "no hub"); }}};
  RunningWorker refused{
      {.fetch = [](const auto&) { return fail(ErrorCode::kForbidden, "gated"); }}};

  EXPECT_EQ(away.wait_end(), 75);
  EXPECT_EQ(away.app().load_error(), "no hub");
  EXPECT_EQ(refused.wait_end(), 78);
}

TEST(Loading, AModelThatCannotBeLoadedEndsTheWorkerWithItsMessage) {
  RunningWorker worker{{.load_error = "broken.gguf: truncated"}};

  EXPECT_EQ(worker.wait_end(), 78);
  EXPECT_EQ(worker.app().load_error(), "broken.gguf: truncated");
}

TEST(Listening, OnATakenAddressNamesIt) {
  RunningWorker first;
  const std::string taken = first.address().to_string();

  App second{{.id = "fake", .listen = taken}, fake::model_loader({})};
  const auto address = second.listen();

  ASSERT_FALSE(address);
  EXPECT_THAT(address.error().message, HasSubstr(taken));
}

TEST(Stopping, AnIdleWorkerEndsAtOnce) {
  RunningWorker worker;
  worker.wait_ready();

  worker.app().stop();

  EXPECT_EQ(worker.wait_end(), 0);
}

TEST(Stopping, RunningStreamsComplete) {
  Gate gate;
  gate.close_after(5);
  RunningWorker worker{{.endless = true, .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  EventStream stream{worker.address(), "POST", kCompletions, kStreamed};
  std::vector<std::string> events{stream.next().value()};
  gate.wait_held();

  EventStream idle{worker.address(), "GET", "/internal/state"};
  worker.app().stop();
  while (!json::parse(idle.next().value()).at("draining").as_bool()) {
  }
  gate.open();
  for (std::string& event : stream.rest()) events.push_back(std::move(event));

  ASSERT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(text_of(events).size(), 40U);
  EXPECT_EQ(worker.wait_end(), 0);
}

TEST(Stopping, NewConnectionsAreRefusedWhileStreamsEnd) {
  Gate gate;
  gate.close_after(5);
  RunningWorker worker{{.endless = true, .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  EventStream state{worker.address(), "GET", "/internal/state"};
  EventStream running{worker.address(), "POST", kCompletions, kEndlessStream};
  ASSERT_TRUE(running.next());

  worker.app().stop();
  while (!json::parse(state.next().value()).at("draining").as_bool()) {
  }

  EXPECT_EQ(post(worker, kCompletions, kStreamed).status, -1);
  gate.open();
  const auto rest = running.rest();
  ASSERT_FALSE(rest.empty());
  EXPECT_EQ(rest.back(), "[DONE]");
}

TEST(Stopping, APipelinedRequestIsNotBegun) {
  Gate gate;
  gate.close();
  RunningWorker worker{{.endless = true, .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  EventStream state{worker.address(), "GET", "/internal/state"};
  const std::string body = R"({"model":"fake","prompt":"x","max_tokens":2})";
  const std::string request =
      fmt::format("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}",
                  kCompletions,
                  body.size(),
                  body);
  http::RawClient client{worker.address()};
  client.send(request + request);
  gate.wait_held();

  worker.app().stop();
  while (!json::parse(state.next().value()).at("draining").as_bool()) {
  }
  gate.open();
  const std::string answers = client.read_to_end();

  EXPECT_EQ(http::status_of(answers), 200);
  EXPECT_THAT(answers, HasSubstr("connection: close"));
  EXPECT_EQ(answers.find("HTTP/1.1", 1), std::string::npos);
}

TEST(Stopping, AStreamOverTheDrainTimeEndsWithAnError) {
  RunningWorker worker{{.endless = true, .step = Milliseconds{20}}, {.drain = Milliseconds{100}}};
  worker.wait_ready();
  EventStream stream{worker.address(), "POST", kCompletions, kEndlessStream};
  ASSERT_TRUE(stream.next());

  worker.app().stop();
  const auto events = stream.rest();

  ASSERT_FALSE(events.empty());
  EXPECT_EQ(json::parse(events.back()).at("error").at("code").as_string(), "shutting_down");
  EXPECT_EQ(worker.wait_end(), 0);
}

TEST(Stopping, AskedAgainItEndsAtOnce) {
  RunningWorker worker{{.endless = true, .step = Milliseconds{20}}};
  worker.wait_ready();
  EventStream stream{worker.address(), "POST", kCompletions, kEndlessStream};
  ASSERT_TRUE(stream.next());

  worker.app().stop();
  worker.app().stop();

  EXPECT_EQ(worker.wait_end(), 0);
}

TEST(Engine, ThatKeepsFailingEndsTheWorkerForAnotherToTakeOver) {
  RunningWorker worker{{.endless = true, .fail_from_step = 0}};
  worker.wait_ready();

  for (int k = 0; k < 2; ++k) (void)post(worker, kCompletions, R"({"model":"fake","prompt":"x"})");

  EXPECT_EQ(worker.wait_end(), 70);
}

// R-ENG-7
TEST(Health, FailsWithinSecondsOfTheEngineStandingStillWithWork) {
  Gate gate;
  RunningWorker worker{{.endless = true, .before_step = [&](std::uint64_t) { gate.pass(); }}};
  worker.wait_ready();
  gate.close();
  EventStream state{worker.address(), "GET", "/internal/state"};
  std::jthread client{[&] {
    EXPECT_EQ(post(worker, kCompletions, R"({"model":"fake","prompt":"x","max_tokens":1})").status,
              200);
  }};
  gate.wait_held();

  // The state stream says how long it has stood still; health turns at five seconds.
  std::int64_t stalled_ms = 0;
  while (stalled_ms < 5'000)
    stalled_ms = json::parse(state.next().value()).at("stalled_ms").as_int64();
  const auto health = get(worker, "/health");
  gate.open();

  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.body, R"({"status":"stalled"})");
  client.join();
  EXPECT_EQ(get(worker, "/health").status, 200);
}

TEST(Lifeline, ItsEndOfFileEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto lose_supervisor = [] {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) ::_exit(1);
    exit_with(ends[0]);
    ::close(ends[1]);
    while (true) ::pause();
  };

  EXPECT_EXIT(lose_supervisor(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace mlxs::worker
