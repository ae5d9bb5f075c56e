#include "gateway/flight/log.h"

#include "gateway/flight/log_watch.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;

api::Delta text(std::string content, std::vector<std::int32_t> ids = {}) {
  api::Delta delta;
  delta.text = std::move(content);
  delta.token_ids = std::move(ids);
  return delta;
}

api::AnswerHead head() { return {.id = "chatcmpl-1", .created = 7, .model = "m"}; }

api::Delta finish(std::string reason, int choice = 0) {
  api::Delta delta;
  delta.choice = choice;
  delta.finish_reason = std::move(reason);
  return delta;
}

std::string all_text(const Log& log) {
  std::string all;
  api::Delta out;
  LogCursor cursor;
  while (cursor.index < log.size()) {
    log.read(cursor, out);
    all += out.text;
  }
  return all;
}

class LogTest : public testing::Test {
 protected:
  asio::io_context io;
  Log log{head(), 10'000};
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
  log.publish();

  api::Delta out;
  LogCursor cursor;
  log.read(cursor, out);
  EXPECT_EQ(out.text, "a");
  EXPECT_EQ(out.token_ids, (std::vector<std::int32_t>{1, 2}));
  log.read(cursor, out);
  EXPECT_EQ(out.text, "c");
  EXPECT_EQ(out.token_ids, std::vector<std::int32_t>{7});
  EXPECT_EQ(out.choice, 1);
  EXPECT_EQ(out.reasoning, "because");
  EXPECT_EQ(out.tool_calls, (boost::json::array{1, 2}));
  EXPECT_EQ(out.logprobs, 3);
  EXPECT_EQ(out.finish_reason, "stop");
  log.read(cursor, out);
  EXPECT_EQ(out.text, "b");
  EXPECT_EQ(out.choice, 0);
  EXPECT_TRUE(out.reasoning.empty());
  EXPECT_TRUE(out.finish_reason.empty());
  EXPECT_TRUE(out.tool_calls.empty());
  EXPECT_TRUE(out.logprobs.is_null());
}

TEST_F(LogTest, ShowsNothingThatIsNotPublished) {
  ASSERT_TRUE(log.append(text("a")));
  EXPECT_EQ(log.size(), 0U);

  log.publish();

  EXPECT_EQ(log.size(), 1U);
}

// R-COAL-1: a late joiner replays from the start, over any number of segments.
TEST_F(LogTest, AReaderThatComesLateReplaysFromTheStart) {
  Log long_log{head(), 1U << 20};
  std::string written;
  for (int k = 0; k < 2000; ++k) {
    const std::string piece(static_cast<std::size_t>(k % 97), static_cast<char>('a' + k % 26));
    written += piece;
    ASSERT_TRUE(long_log.append(text(piece, {k})));
  }
  ASSERT_TRUE(long_log.append(text(std::string(100'000, 'z'))));
  long_log.finish();

  EXPECT_EQ(all_text(long_log), written + std::string(100'000, 'z'));
}

TEST_F(LogTest, RefusesWhatExceedsItsBound) {
  ASSERT_TRUE(log.append(text(std::string(9'900, 'x'))));

  EXPECT_FALSE(log.append(text(std::string(100, 'x'))));
  log.publish();
  EXPECT_EQ(log.size(), 1U);
}

TEST_F(LogTest, TheFirstEndCounts) {
  log.fail({ErrorCode::kWorkerLost, "gone"}, 3);
  log.finish();
  log.fail({ErrorCode::kCancelled, "late"});

  ASSERT_TRUE(log.error());
  EXPECT_EQ(log.error()->code, ErrorCode::kWorkerLost);
  EXPECT_EQ(log.retry_after_s(), 3);
}

TEST_F(LogTest, IsCompleteWhenEveryChoiceEndedWell) {
  EXPECT_FALSE(log.complete(1));
  ASSERT_TRUE(log.append(text("a")));
  EXPECT_FALSE(log.complete(1));
  ASSERT_TRUE(log.append(finish("stop")));
  EXPECT_TRUE(log.complete(1));
  EXPECT_FALSE(log.complete(2));
  ASSERT_TRUE(log.append(finish("content_filter", 1)));
  EXPECT_FALSE(log.complete(2));
}

TEST_F(LogTest, SealedIsAnEndedCopyOfJustItsSize) {
  for (int k = 0; k < 100; ++k) ASSERT_TRUE(log.append(text("0123456789", {k})));
  ASSERT_TRUE(log.append(finish("length")));
  log.set_usage({.prompt_tokens = 3, .completion_tokens = 100});
  log.publish();

  const auto sealed = log.sealed();

  EXPECT_TRUE(sealed->ended());
  EXPECT_FALSE(log.ended());
  EXPECT_EQ(all_text(*sealed), all_text(log));
  EXPECT_EQ(sealed->usage().completion_tokens, 100);
  EXPECT_EQ(sealed->finish_reason(), "length");
  EXPECT_EQ(sealed->head().id, "chatcmpl-1");
  // 24 bytes a record, 4 of an id and 10 of text, padded to 40; the rest is the log itself.
  EXPECT_LT(sealed->bytes(), 100U * 40U + 24U + sizeof(Log) + sizeof(api::Delta) + 200U);
  EXPECT_LE(sealed->bytes(), log.bytes());
}

asio::awaitable<void> count_wakes(asio::io_context& io, Log& log, int& wakes, LogReader::For what) {
  LogReader reader{log.watch(io)};
  while (!log.ended()) {
    co_await reader.wait(what, TimePoint::max());
    ++wakes;
  }
}

TEST_F(LogTest, EventsPublishedTogetherWakeAReaderOnceAndThoseWhoWaitForTheEndNotAtAll) {
  int grown = 0;
  int ended = 0;
  asio::co_spawn(io, count_wakes(io, log, grown, LogReader::For::kGrowth), asio::detached);
  asio::co_spawn(io, count_wakes(io, log, ended, LogReader::For::kEnd), asio::detached);
  io.poll();

  ASSERT_TRUE(log.append(text("a")));
  ASSERT_TRUE(log.append(text("b")));
  log.publish();
  io.poll();

  EXPECT_EQ(grown, 1);
  EXPECT_EQ(ended, 0);
  log.finish();
  io.poll();
  EXPECT_EQ(grown, 2);
  EXPECT_EQ(ended, 1);
}

TEST_F(LogTest, ManyReadersLeaveTheLoopsOtherWorkItsTurn) {
  int grown = 0;
  int seen_by_others = 0;
  constexpr int kReaders = 2 * static_cast<int>(LogWatch::kAtOnce) + 7;
  for (int k = 0; k < kReaders; ++k)
    asio::co_spawn(io, count_wakes(io, log, grown, LogReader::For::kGrowth), asio::detached);
  io.poll();

  ASSERT_TRUE(log.append(text("a")));
  log.publish();
  asio::post(io, [&] { seen_by_others = grown; });
  io.poll();

  EXPECT_EQ(seen_by_others, static_cast<int>(LogWatch::kAtOnce));
  EXPECT_EQ(grown, kReaders);
  log.finish();
  io.poll();
  EXPECT_EQ(grown, 2 * kReaders);
}

TEST_F(LogTest, ManyAppendsBeforeALoopsTurnWakeItOnce) {
  int grown = 0;
  asio::co_spawn(io, count_wakes(io, log, grown, LogReader::For::kGrowth), asio::detached);
  io.poll();

  for (int k = 0; k < 5; ++k) {
    ASSERT_TRUE(log.append(text("a")));
    log.publish();  // from outside the loop, as from another loop's thread
  }
  const std::size_t handlers = io.poll();

  EXPECT_EQ(grown, 1);
  EXPECT_LE(handlers, 3U);
  log.finish();
  io.poll();
}

// Readers on three other threads see every event whole and in order while it is written.
TEST_F(LogTest, IsReadOnOtherLoopsWhileItGrows) {
  constexpr int kEvents = 20'000;
  Log shared{head(), 64U << 20};
  struct Loop {
    asio::io_context io{1};
    std::string text;
    bool in_order = true;
    std::thread thread;
  };
  std::array<Loop, 3> loops;
  const auto follow = [](Loop& loop, const Log& of) -> asio::awaitable<void> {
    LogReader reader{of.watch(loop.io)};
    LogCursor cursor;
    api::Delta out;
    for (;;) {
      const bool ended = of.ended();
      while (cursor.index < of.size()) {
        const auto index = static_cast<std::int32_t>(cursor.index);
        of.read(cursor, out);
        loop.in_order = loop.in_order && out.token_ids == std::vector<std::int32_t>{index};
        loop.text += out.text;
      }
      if (ended && cursor.index == of.size()) co_return;
      if (!ended && cursor.index == of.size())
        co_await reader.wait(LogReader::For::kGrowth, Clock::now() + Milliseconds{10'000});
    }
  };
  for (Loop& loop : loops) {
    asio::co_spawn(loop.io, follow(loop, shared), asio::detached);
    loop.thread = std::thread{[&loop] { loop.io.run(); }};
  }

  std::string written;
  for (int k = 0; k < kEvents; ++k) {
    const std::string piece(static_cast<std::size_t>(k % 13), static_cast<char>('a' + k % 26));
    written += piece;
    api::Delta delta = text(piece, {k});
    if (k % 50 == 0) delta.reasoning = "r";
    ASSERT_TRUE(shared.append(std::move(delta)));
    if (k % 3 == 0) shared.publish();
  }
  shared.finish();
  for (Loop& loop : loops) loop.thread.join();

  for (const Loop& loop : loops) {
    EXPECT_TRUE(loop.in_order);
    EXPECT_EQ(loop.text, written);
  }
}

}  // namespace
}  // namespace mlxs::gateway
