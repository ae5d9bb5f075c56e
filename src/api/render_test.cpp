#include "api/render.h"

#include "api/chunk.h"
#include "api/json_text.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace mlxs::api {
namespace {

namespace json = boost::json;
using testing::ElementsAre;

AnswerHead head(Surface surface) { return {surface, "id-1", 1700000000, "a/\"b\""}; }

/// The data of each frame; every frame must end with a blank line.
std::vector<std::string> frames(std::string_view out) {
  std::vector<std::string> list;
  while (!out.empty()) {
    EXPECT_TRUE(out.starts_with("data: "));
    const auto end = out.find("\n\n");
    list.emplace_back(out.substr(6, end - 6));
    out.remove_prefix(end + 2);
  }
  return list;
}

std::vector<std::string> rendered(StreamRenderer& renderer, const Delta& delta) {
  std::string out;
  renderer.append(out, delta);
  return frames(out);
}

constexpr std::string_view kHead =
    R"({"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"a/\"b\"","choices":[)";

TEST(StreamRenderer, ChatFramesAreExactlyOpenAis) {
  StreamRenderer renderer{head(Surface::kChat), false, false};

  EXPECT_THAT(
      rendered(renderer, {.text = "hé\n\"\x01"}),
      ElementsAre(
          std::string{kHead} +
              R"({"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]})",
          std::string{kHead} +
              R"({"index":0,"delta":{"content":"hé\n\"\u0001"},"logprobs":null,"finish_reason":null}]})"));
  EXPECT_THAT(rendered(renderer, {.finish_reason = "stop"}),
              ElementsAre(std::string{kHead} +
                          R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]})"));
}

TEST(StreamRenderer, SendsTheRoleOnceAChoice) {
  StreamRenderer renderer{head(Surface::kChat), false, false};
  std::string out;

  renderer.append(out, {.choice = 0, .text = "a"});
  renderer.append(out, {.choice = 1, .text = "b"});
  renderer.append(out, {.choice = 0, .text = "c", .finish_reason = "stop"});

  int roles = 0;
  for (const std::string& frame : frames(out)) roles += frame.find("role") != std::string::npos;
  EXPECT_EQ(roles, 2);
}

TEST(StreamRenderer, FinishesInAFrameWithAnEmptyDelta) {
  StreamRenderer renderer{head(Surface::kChat), false, false};

  const auto list = rendered(renderer, {.text = "a", .finish_reason = "length"});

  ASSERT_EQ(list.size(), 3U);
  const json::value last = json::parse(list[2]);
  EXPECT_TRUE(last.at("choices").at(0).at("delta").as_object().empty());
  EXPECT_EQ(last.at("choices").at(0).at("finish_reason").as_string(), "length");
  EXPECT_TRUE(json::parse(list[1]).at("choices").at(0).at("finish_reason").is_null());
}

TEST(StreamRenderer, CompletionsFinishWithTheirText) {
  StreamRenderer renderer{head(Surface::kCompletions), false, false};

  EXPECT_THAT(
      rendered(renderer, {.text = "a", .finish_reason = "stop"}),
      ElementsAre(
          R"({"id":"id-1","object":"text_completion","created":1700000000,"model":"a/\"b\"","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":"stop"}]})"));
}

TEST(StreamRenderer, UsageComesLastWithoutChoicesAndIsNullBefore) {
  StreamRenderer renderer{head(Surface::kCompletions), true, false};
  std::string out;

  renderer.append(out, {.text = "a"});
  renderer.append_usage(
      out, {.prompt_tokens = 7, .completion_tokens = 3, .cached_tokens = 2, .reasoning_tokens = 1});
  renderer.append_done(out);

  const auto list = frames(out);
  ASSERT_EQ(list.size(), 3U);
  EXPECT_TRUE(json::parse(list[0]).at("usage").is_null());
  EXPECT_EQ(
      list[1],
      R"({"id":"id-1","object":"text_completion","created":1700000000,"model":"a/\"b\"","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}})");
  EXPECT_EQ(list[2], "[DONE]");
}

TEST(StreamRenderer, KeepsUsageToThoseWhoAsk) {
  StreamRenderer renderer{head(Surface::kChat), false, false};
  std::string out;

  renderer.append(out, {.text = "a"});
  renderer.append_usage(out, {.prompt_tokens = 7});

  EXPECT_EQ(out.find("usage"), std::string::npos);
}

TEST(StreamRenderer, TokenIdsTravelAlsoWithoutText) {
  StreamRenderer with{head(Surface::kChat), false, true};
  StreamRenderer without{head(Surface::kChat), false, false};
  const Delta withheld{.token_ids = {5, 6}};

  const auto list = rendered(with, withheld);

  EXPECT_EQ(json::serialize(json::parse(list.back()).at("mlxs")), R"({"token_ids":[5,6]})");
  EXPECT_TRUE(rendered(without, withheld).empty());
}

TEST(StreamRenderer, ErrorEventIsAnErrorObject) {
  std::string out;

  StreamRenderer::append_error(out, {ErrorCode::kWorkerLost, "gone"});

  EXPECT_EQ(out,
            "data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\",\"param\":null,"
            "\"code\":\"worker_lost\"}}\n\n");
}

TEST(WholeRenderer, JoinsAChatAnswer) {
  WholeRenderer renderer{head(Surface::kChat)};

  renderer.add({.text = "a"});
  renderer.add({.text = "b", .finish_reason = "stop"});

  EXPECT_EQ(
      renderer.render({.prompt_tokens = 1, .completion_tokens = 2}),
      R"({"id":"id-1","object":"chat.completion","created":1700000000,"model":"a/\"b\"","choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}})");
}

TEST(WholeRenderer, JoinsACompletion) {
  WholeRenderer renderer{head(Surface::kCompletions)};

  renderer.add({.text = "a", .finish_reason = "length"});

  const json::value answer = json::parse(renderer.render({}));
  EXPECT_EQ(answer.at("object").as_string(), "text_completion");
  EXPECT_EQ(answer.at("choices").at(0).at("text").as_string(), "a");
}

TEST(WholeRenderer, JoinsToolCallFragments) {
  WholeRenderer renderer{head(Surface::kChat)};

  for (const char* fragment :
       {R"([{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}])",
        R"([{"index":0,"function":{"arguments":"{\"x\""}}])",
        R"([{"index":0,"function":{"arguments":":1}"}}])",
        R"([{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}])"})
    renderer.add({.tool_calls = json::parse(fragment).as_array()});
  renderer.add({.finish_reason = "tool_calls"});

  const json::value answer = json::parse(renderer.render({}));
  const json::value& message = answer.at("choices").at(0).at("message");
  EXPECT_TRUE(message.at("content").is_null());
  EXPECT_EQ(
      json::serialize(message.at("tool_calls")),
      R"([{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}])");
}

TEST(WholeRenderer, JoinsLogprobs) {
  WholeRenderer renderer{head(Surface::kChat)};

  renderer.add({.logprobs = json::parse(R"({"content":[1]})")});
  renderer.add({.logprobs = json::parse(R"({"content":[2,3]})")});

  EXPECT_EQ(json::serialize(json::parse(renderer.render({})).at("choices").at(0).at("logprobs")),
            R"({"content":[1,2,3]})");
}

Delta any_delta() {
  Delta delta;
  delta.choice = *rc::gen::inRange(0, 3);
  delta.text = *rc::gen::string<std::string>();
  for (char& character : delta.text) character = static_cast<char>(character & 0x7f);
  delta.reasoning = *rc::gen::element<std::string>("", "because\n", "日本");
  delta.finish_reason = *rc::gen::element<std::string>("", "stop", "length");
  delta.token_ids = *rc::gen::container<std::vector<std::int32_t>>(rc::gen::inRange(0, 200000));
  return delta;
}

/// What arrives when frames of one delta are parsed one by one.
Delta round_trip(Surface surface, const Delta& delta) {
  StreamRenderer renderer{head(surface), true, true};
  Delta back;
  for (const std::string& frame : rendered(renderer, delta)) {
    const auto chunk = parse_chunk(surface, frame);
    RC_ASSERT(chunk.has_value());
    RC_ASSERT(chunk->deltas.size() == 1U);
    const Delta& piece = chunk->deltas[0];
    back.choice = piece.choice;
    back.text += piece.text;
    back.reasoning += piece.reasoning;
    back.finish_reason += piece.finish_reason;
    back.token_ids.insert(back.token_ids.end(), piece.token_ids.begin(), piece.token_ids.end());
  }
  return back;
}

RC_GTEST_PROP(StreamRenderer, WhatIsRenderedIsWhatIsParsed, ()) {
  Delta delta = any_delta();
  if (*rc::gen::arbitrary<bool>()) {
    const Delta back = round_trip(Surface::kChat, delta);
    RC_ASSERT(back.text == delta.text);
    RC_ASSERT(back.reasoning == delta.reasoning);
    RC_ASSERT(back.finish_reason == delta.finish_reason);
    RC_ASSERT(back.token_ids == delta.token_ids);
    return;
  }
  const Delta back = round_trip(Surface::kCompletions, delta);
  RC_ASSERT(back.text == delta.text);
  RC_ASSERT(back.finish_reason == delta.finish_reason);
  RC_ASSERT(back.token_ids == delta.token_ids || delta.reasoning.empty() == false);
}

TEST(JsonText, EscapesExactlyWhatJsonAsksFor) {
  std::string all;
  for (int byte = 0; byte < 128; ++byte) all.push_back(static_cast<char>(byte));
  all += "é日😀";
  std::string out;

  append_json_string(out, all);

  EXPECT_EQ(json::parse(out).as_string(), all);
}

}  // namespace
}  // namespace mlxs::api
