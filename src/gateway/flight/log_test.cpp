#include "gateway/flight/log.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/array.hpp>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

api::Delta text(std::string content, std::vector<std::int32_t> ids = {}) {
  api::Delta delta;
  delta.text = std::move(content);
  delta.token_ids = std::move(ids);
  return delta;
}

class LogTest : public testing::Test {
 protected:
  asio::io_context io;
  Log log{io.get_executor(), 10'000};
};

TEST_F(LogTest, GivesBackEveryPartOfWhatWasAppended) {
  api::Delta rich = text("c", {7});
  rich.choice = 1;
  rich.reasoning = "because";
  rich.tool_calls = boost::json::array{1, 2};
  rich.logprobs = 3;
  rich.finish_reason = "stop";

  ASSERT_TRUE(log.append(text("a", {1, 2})));
  ASSERT_TRUE(log.append(std::move(rich)));
  ASSERT_TRUE(log.append(text("b", {3})));

  api::Delta out;
  log.read(1, out);
  EXPECT_EQ(out.text, "c");
  EXPECT_EQ(out.token_ids, std::vector<std::int32_t>{7});
  EXPECT_EQ(out.choice, 1);
  EXPECT_EQ(out.reasoning, "because");
  EXPECT_EQ(out.tool_calls, (boost::json::array{1, 2}));
  EXPECT_EQ(out.logprobs, 3);
  EXPECT_EQ(out.finish_reason, "stop");
}

TEST_F(LogTest, AReaderThatComesLateReplaysFromTheStart) {
  ASSERT_TRUE(log.append(text("a", {1, 2})));
  ASSERT_TRUE(log.append(text("bc", {3})));
  log.finish();

  std::string all;
  std::vector<std::int32_t> ids;
  api::Delta out;
  for (std::size_t at = 0; at < log.size(); ++at) {
    log.read(at, out);
    all += out.text;
    ids.insert(ids.end(), out.token_ids.begin(), out.token_ids.end());
  }

  EXPECT_EQ(all, "abc");
  EXPECT_EQ(ids, (std::vector<std::int32_t>{1, 2, 3}));
}

TEST_F(LogTest, NothingOfOneEventStaysInTheNext) {
  api::Delta rich = text("a");
  rich.reasoning = "r";
  rich.finish_reason = "stop";
  rich.tool_calls = boost::json::array{1};
  rich.logprobs = 1;
  ASSERT_TRUE(log.append(std::move(rich)));
  ASSERT_TRUE(log.append(text("b")));

  api::Delta out;
  log.read(0, out);
  log.read(1, out);

  EXPECT_EQ(out.text, "b");
  EXPECT_TRUE(out.reasoning.empty());
  EXPECT_TRUE(out.finish_reason.empty());
  EXPECT_TRUE(out.tool_calls.empty());
  EXPECT_TRUE(out.logprobs.is_null());
}

TEST_F(LogTest, RefusesWhatExceedsItsBound) {
  ASSERT_TRUE(log.append(text(std::string(9'900, 'x'))));

  EXPECT_FALSE(log.append(text(std::string(100, 'x'))));
  EXPECT_EQ(log.size(), 1U);
  EXPECT_LE(log.bytes(), 10'000U);
}

TEST_F(LogTest, TheFirstEndCounts) {
  log.fail({ErrorCode::kWorkerLost, "gone"});
  log.finish();
  log.fail({ErrorCode::kCancelled, "late"});

  ASSERT_TRUE(log.error());
  EXPECT_EQ(log.error()->code, ErrorCode::kWorkerLost);
}

asio::awaitable<void> count_wakes(Log& log, int& grown, int& ended) {
  while (!log.ended()) {
    co_await log.wait_grown(TimePoint::max());
    ++grown;
  }
  ++ended;
}

asio::awaitable<void> count_end(Log& log, int& wakes) {
  while (!log.ended()) {
    co_await log.wait_ended(TimePoint::max());
    ++wakes;
  }
}

TEST_F(LogTest, EventsPublishedTogetherWakeAReaderOnceAndThoseWhoWaitForTheEndNotAtAll) {
  int grown = 0;
  int ended = 0;
  int end_wakes = 0;
  asio::co_spawn(io, count_wakes(log, grown, ended), asio::detached);
  asio::co_spawn(io, count_end(log, end_wakes), asio::detached);
  io.poll();

  ASSERT_TRUE(log.append(text("a")));
  ASSERT_TRUE(log.append(text("b")));
  log.publish();
  io.poll();

  EXPECT_EQ(grown, 1);
  EXPECT_EQ(end_wakes, 0);
  log.finish();
  io.poll();
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(end_wakes, 1);
}

}  // namespace
}  // namespace mlxs::gateway
