#include "http/sse.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <vector>

namespace mlxs::http {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

/// Feeds `text` in pieces of the given sizes (the last takes the rest).
Events read(std::string_view text, const std::vector<std::size_t>& pieces = {}) {
  SseReader reader{1024};
  Events events;
  SseReader::Event event;
  const auto feed = [&](std::string_view piece) {
    reader.feed(piece);
    while (reader.next(event).value()) events.emplace_back(event.name, event.data);
  };
  for (const std::size_t size : pieces) {
    feed(text.substr(0, size));
    text.remove_prefix(std::min(size, text.size()));
  }
  feed(text);
  return events;
}

TEST(SseReader, ReadsWhatTheWriterWrote) {
  std::string text;
  append_sse_data(text, R"({"a":1})");
  text += kSseKeepAlive;
  text += kSseDone;

  EXPECT_EQ(read(text), (Events{{"", R"({"a":1})"}, {"", "[DONE]"}}));
}

TEST(SseReader, JoinsDataLinesAndKeepsTheName) {
  EXPECT_EQ(read("event: error\ndata: a\ndata:b\ndata\n\n"), (Events{{"error", "a\nb\n"}}));
}

TEST(SseReader, EndsLinesAtCrLfAndCrlf) {
  EXPECT_EQ(read("data: a\r\n\r\ndata: b\r\rdata: c\n\n"),
            (Events{{"", "a"}, {"", "b"}, {"", "c"}}));
}

TEST(SseReader, SkipsCommentsUnknownFieldsAndEventsWithoutData) {
  EXPECT_EQ(read(": hi\n\nid: 7\nretry: 1\n\nevent: lonely\n\ndata: x\n\n"), (Events{{"", "x"}}));
}

TEST(SseReader, SkipsAByteOrderMarkAtTheBeginningOnly) {
  EXPECT_EQ(read("\xEF\xBB\xBF"
                 "data: x\n\n"),
            (Events{{"", "x"}}));
}

TEST(SseReader, DispatchesEmptyData) { EXPECT_EQ(read("data\n\n"), (Events{{"", ""}})); }

TEST(SseReader, KeepsAnUnfinishedEventBack) { EXPECT_EQ(read("data: x\n"), Events{}); }

TEST(SseReader, GivesTheSameEventsForAnySplit) {
  const bool holds = rc::check([] {
    const auto words = *rc::gen::container<std::vector<std::string>>(
        rc::gen::element<std::string>("data: x",
                                      "data:yy",
                                      "data",
                                      "event: n",
                                      ":c",
                                      "id: 1",
                                      "z",
                                      "\n",
                                      "\r\n",
                                      "\r",
                                      "\n\n",
                                      "\r\r",
                                      "\xEF\xBB\xBF"));
    std::string text;
    for (const auto& word : words) text += word;
    const auto pieces = *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange(0, 4));

    RC_ASSERT(read(text, pieces) == read(text));
  });
  EXPECT_TRUE(holds);
}

TEST(SseReader, RefusesAnEventOverTheBoundHoweverItIsSplit) {
  const std::string long_line = "data: " + std::string(2000, 'x') + "\n\n";
  std::string many_lines;
  for (int i = 0; i < 400; ++i) many_lines += "data: xyz\n";
  for (const std::string& text : {long_line, long_line.substr(0, 1500), many_lines}) {
    for (const std::size_t piece : {std::size_t{1}, std::size_t{100}, text.size()}) {
      SseReader reader{1024};
      SseReader::Event event;
      Result<bool> got = false;
      for (std::size_t at = 0; at < text.size() && got; at += piece) {
        reader.feed(text.substr(at, piece));
        got = reader.next(event);
      }
      ASSERT_FALSE(got);
      EXPECT_EQ(got.error().code, ErrorCode::kWorkerProtocol);
    }
  }
}

TEST(SseReader, TakesAnEventAtTheBound) {
  SseReader reader{1024};
  SseReader::Event event;
  reader.feed("data: " + std::string(1024, 'x') + "\n\n");

  ASSERT_TRUE(reader.next(event).value());
  EXPECT_EQ(event.data.size(), 1024U);
}

}  // namespace
}  // namespace mlxs::http
