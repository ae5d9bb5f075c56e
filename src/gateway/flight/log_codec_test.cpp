#include "gateway/flight/log_codec.h"

#include "gateway/flight/log.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;

std::shared_ptr<const Log> some_answer() {
  Log log{{.surface = api::Surface::kCompletions, .id = "cmpl-1", .created = 17, .model = "m"},
          1U << 20U};
  EXPECT_TRUE(log.append({.text = "Grüße, ", .token_ids = {1, -2, 2'000'000'000}}));
  EXPECT_TRUE(log.append({.choice = 3, .reasoning = "because"}));
  EXPECT_TRUE(log.append({.tool_calls = json::parse(R"([{"index":0,"id":"c"}])").as_array()}));
  EXPECT_TRUE(log.append({.text = std::string("\0 end", 5),
                          .logprobs = json::parse(R"({"content":[{"logprob":-0.1}]})")}));
  EXPECT_TRUE(log.append({.finish_reason = "stop"}));
  log.set_usage({.prompt_tokens = 5, .completion_tokens = 7, .cached_tokens = 1});
  log.publish();
  log.finish();
  return log.sealed();
}

TEST(LogCodec, AnAnswerComesBackEqualInEverything) {
  const auto answer = some_answer();
  std::string bytes;
  append_bytes(*answer, bytes);

  const StoredAnswerPtr read = log_from_bytes(bytes);

  ASSERT_TRUE(read);
  const auto& log = static_cast<const Log&>(*read);
  EXPECT_TRUE(log.ended());
  EXPECT_EQ(log.head().surface, api::Surface::kCompletions);
  EXPECT_EQ(log.head().id, "cmpl-1");
  EXPECT_EQ(log.head().created, 17);
  EXPECT_EQ(log.head().model, "m");
  EXPECT_EQ(log.usage().prompt_tokens, 5);
  EXPECT_EQ(log.usage().completion_tokens, 7);
  EXPECT_EQ(log.usage().cached_tokens, 1);
  EXPECT_EQ(log.finish_reason(), "stop");
  ASSERT_EQ(log.size(), answer->size());
  LogCursor ours;
  LogCursor theirs;
  api::Delta expected;
  api::Delta actual;
  for (std::size_t i = 0; i < log.size(); ++i) {
    answer->read(ours, expected);
    log.read(theirs, actual);
    EXPECT_EQ(actual.choice, expected.choice);
    EXPECT_EQ(actual.text, expected.text);
    EXPECT_EQ(actual.token_ids, expected.token_ids);
    EXPECT_EQ(actual.reasoning, expected.reasoning);
    EXPECT_EQ(actual.tool_calls, expected.tool_calls);
    EXPECT_EQ(actual.logprobs, expected.logprobs);
    EXPECT_EQ(actual.finish_reason, expected.finish_reason);
  }
  std::string again;
  append_bytes(*read, again);
  EXPECT_EQ(again, bytes);
}

TEST(LogCodec, WhatIsCutShortIsNoAnswerAndNoDamageCrashes) {
  std::string bytes;
  append_bytes(*some_answer(), bytes);

  for (std::size_t at = 0; at < bytes.size(); ++at) {
    EXPECT_FALSE(log_from_bytes(std::string_view{bytes}.substr(0, at))) << at;
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1U << at % 8));
    (void)log_from_bytes(damaged);
  }
  EXPECT_FALSE(log_from_bytes(bytes + "x"));
}

}  // namespace
}  // namespace mlxs::gateway
