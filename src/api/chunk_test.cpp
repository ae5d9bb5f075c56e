#include "api/chunk.h"

#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ParseChunk, ReadsAChatDelta) {
  const auto chunk = parse_chunk(
      Surface::kChat,
      R"({"id":"x","model":"theirs","choices":[{"index":1,"delta":{"role":"assistant","content":"hé"},
          "logprobs":{"content":[]},"finish_reason":null}],"usage":null,"mlxs":{"token_ids":[5,6]},"new":1})");

  ASSERT_TRUE(chunk) << chunk.error().message;
  ASSERT_EQ(chunk->deltas.size(), 1U);
  EXPECT_EQ(chunk->deltas[0].choice, 1);
  EXPECT_EQ(chunk->deltas[0].text, "hé");
  EXPECT_EQ(chunk->deltas[0].finish_reason, "");
  EXPECT_THAT(chunk->deltas[0].token_ids, ElementsAre(5, 6));
  EXPECT_EQ(boost::json::serialize(chunk->deltas[0].logprobs), R"({"content":[]})");
  EXPECT_EQ(chunk->model, "theirs");
  EXPECT_FALSE(chunk->usage);
}

TEST(ParseChunk, ReadsBothSpellingsOfReasoning) {
  for (const char* text : {R"({"choices":[{"delta":{"reasoning_content":"r","reasoning":"r"}}]})",
                           R"({"choices":[{"delta":{"reasoning":"r"}}]})"})
    EXPECT_EQ(parse_chunk(Surface::kChat, text)->deltas[0].reasoning, "r");
}

TEST(ParseChunk, ReadsUsageWithItsDetails) {
  const auto chunk = parse_chunk(
      Surface::kChat,
      R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,
          "prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}})");

  ASSERT_TRUE(chunk && chunk->usage);
  EXPECT_THAT(chunk->deltas, IsEmpty());
  EXPECT_EQ(chunk->usage->prompt_tokens, 7);
  EXPECT_EQ(chunk->usage->completion_tokens, 3);
  EXPECT_EQ(chunk->usage->cached_tokens, 2);
  EXPECT_EQ(chunk->usage->reasoning_tokens, 1);
}

TEST(ParseChunk, ReadsCompletions) {
  const auto chunk = parse_chunk(
      Surface::kCompletions, R"({"choices":[{"index":0,"text":"a","finish_reason":"length"}]})");

  ASSERT_TRUE(chunk);
  EXPECT_EQ(chunk->deltas[0].text, "a");
  EXPECT_EQ(chunk->deltas[0].finish_reason, "length");
}

TEST(ParseChunk, TurnsAnErrorEventIntoTheErrorItNames) {
  const auto error = [](std::string_view text) {
    return parse_chunk(Surface::kChat, text).error();
  };

  const Error deadline = error(
      R"({"error":{"message":"late","type":"timeout_error","param":null,"code":"deadline_exceeded"}})");
  EXPECT_EQ(deadline.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(deadline.message, "late");
  EXPECT_EQ(error(R"({"error":{"message":"m","type":"rate_limit_error","code":429}})").code,
            ErrorCode::kOverloaded);
  EXPECT_EQ(error(R"({"error":{"message":"m","type":"server_error"}})").code,
            ErrorCode::kWorkerProtocol);
  EXPECT_EQ(error(R"({"error":"boom"})").message, "boom");
  EXPECT_EQ(error(R"({"error":"boom"})").code, ErrorCode::kWorkerProtocol);
}

TEST(ParseChunk, AFalsyErrorIsNone) {
  EXPECT_TRUE(parse_chunk(Surface::kChat, R"({"error":null,"choices":[]})"));
  EXPECT_TRUE(parse_chunk(Surface::kChat, R"({"error":"","choices":[]})"));
}

TEST(ParseChunk, RefusesWhatIsNoChunk) {
  for (const char* text : {"",
                           "x",
                           "[]",
                           "{}",
                           R"({"choices":{}})",
                           R"({"choices":[3]})",
                           R"({"choices":[{"delta":"x"}]})",
                           R"({"choices":[{"delta":{"content":3}}]})",
                           R"({"choices":[{"delta":{"tool_calls":{}}}]})",
                           R"({"choices":[{"delta":{"tool_calls":[1]}}]})",
                           R"({"choices":[{"delta":{}}],"mlxs":{"token_ids":[-1]}})",
                           R"({"choices":[{"delta":{}}],"mlxs":{"token_ids":7}})"}) {
    const auto chunk = parse_chunk(Surface::kChat, text);

    ASSERT_FALSE(chunk) << text;
    EXPECT_EQ(chunk.error().code, ErrorCode::kWorkerProtocol) << text;
  }
}

TEST(ParseChunk, BoundsTheChoiceIndex) {
  EXPECT_TRUE(parse_chunk(Surface::kChat, R"({"choices":[{"index":127,"delta":{}}]})"));
  EXPECT_FALSE(parse_chunk(Surface::kChat, R"({"choices":[{"index":4096,"delta":{}}]})"));
  EXPECT_FALSE(parse_chunk(Surface::kChat, R"({"choices":[{"index":2147483648,"delta":{}}]})"));
}

TEST(ParseWhole, ReadsMessagesAndNumbersToolCalls) {
  const auto chunk = parse_whole(
      Surface::kChat,
      R"({"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[
          {"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b"}]},
          "finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2}})");

  ASSERT_TRUE(chunk);
  const Delta& delta = chunk->deltas[0];
  EXPECT_EQ(delta.finish_reason, "tool_calls");
  EXPECT_EQ(delta.tool_calls.at(1).at("index").as_uint64(), 1U);
  EXPECT_EQ(chunk->usage->completion_tokens, 2);
}

TEST(ParseWhole, AnErrorBodyIsAnError) {
  EXPECT_THAT(parse_whole(Surface::kChat, R"({"error":{"message":"no"}})").error().message,
              HasSubstr("no"));
}

}  // namespace
}  // namespace mlxs::api
