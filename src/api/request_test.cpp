#include "api/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<NativeRequest> native(Surface surface, std::string_view json) {
  auto envelope = parse_envelope(surface, json);
  if (!envelope) return envelope.error();
  return parse_native(*envelope);
}

Result<NativeRequest> completion(std::string_view members) {
  return native(Surface::kCompletions,
                R"({"model":"m","prompt":"p",)" + std::string{members} + "}");
}

std::string error_of(std::string_view json) {
  auto envelope = parse_envelope(Surface::kChat, json);
  return envelope ? "" : envelope.error().param + "|" + envelope.error().message;
}

TEST(Envelope, ReadsWhatRoutingNeeds) {
  const auto envelope = parse_envelope(
      Surface::kChat,
      R"({"z":1,"model":"a/b","stream":true,"stream_options":{"include_usage":true}})");

  ASSERT_TRUE(envelope);
  EXPECT_EQ(envelope->model, "a/b");
  EXPECT_TRUE(envelope->stream);
  EXPECT_TRUE(envelope->include_usage);
  EXPECT_EQ(envelope->body.begin()->key(), "z");
}

TEST(Envelope, RefusesWhatIsNoJsonObject) {
  for (const std::string_view text : {"",
                                      "{",
                                      "[]",
                                      "null",
                                      "3",
                                      "{\"model\":\"m\"} x",
                                      "{'a':1}",
                                      "{\"model\":\"m\",}",
                                      "{\"model\":NaN}"}) {
    const auto envelope = parse_envelope(Surface::kChat, text);

    ASSERT_FALSE(envelope) << text;
    EXPECT_EQ(envelope.error().code, ErrorCode::kInvalidRequest);
    EXPECT_THAT(envelope.error().message, HasSubstr("JSON"));
    EXPECT_EQ(envelope.error().param, "");
  }
}

TEST(Envelope, RefusesTextThatIsNoUnicode) {
  EXPECT_NE(error_of("{\"model\":\"m\xff\"}"), "");
  EXPECT_NE(error_of("{\"model\":\"m\xed\xa0\x80\"}"), "");
  EXPECT_NE(error_of(R"({"model":"m\ud800"})"), "");
  EXPECT_NE(error_of(R"({"model":"m\udc00x"})"), "");
  EXPECT_EQ(error_of(R"({"model":"m\ud83d\ude00"})"), "");
}

TEST(Envelope, RefusesNestingBeyondItsLimit) {
  const std::string deep =
      R"({"model":"m","x":)" + std::string(70, '[') + std::string(70, ']') + "}";

  EXPECT_THAT(error_of(deep), HasSubstr("JSON"));
  EXPECT_TRUE(parse_envelope(Surface::kChat, deep, 80));
}

TEST(Envelope, NamesTheFieldAtFault) {
  EXPECT_THAT(error_of("{}"), HasSubstr("model|Missing required"));
  EXPECT_THAT(error_of(R"({"model":3})"), HasSubstr("model|"));
  EXPECT_THAT(error_of(R"({"model":""})"), HasSubstr("model|"));
  EXPECT_THAT(error_of(R"({"model":"m","stream":"yes"})"), HasSubstr("stream|"));
  EXPECT_THAT(error_of(R"({"model":"m","stream":true,"stream_options":{"include_usage":1}})"),
              HasSubstr("stream_options.include_usage|"));
}

TEST(NativeRequest, ReadsSamplingAndLimits) {
  const auto request = completion(
      R"("temperature":0.5,"top_p":0.9,"top_k":-1,"min_p":0.1,"seed":-1,"max_tokens":7.0,
         "stop":["a","b"],"echo":true)");

  ASSERT_TRUE(request) << request.error().message;
  EXPECT_FLOAT_EQ(request->temperature.value(), 0.5F);
  EXPECT_FLOAT_EQ(request->top_p.value(), 0.9F);
  EXPECT_EQ(request->top_k, 0);
  EXPECT_FLOAT_EQ(request->min_p.value(), 0.1F);
  EXPECT_EQ(request->seed, 0xffff'ffff'ffff'ffffU);
  EXPECT_EQ(request->completion_tokens_max, 7);
  EXPECT_THAT(request->stop, ElementsAre("a", "b"));
  EXPECT_TRUE(request->echo);
}

TEST(NativeRequest, LeavesOpenWhatTheRequestDoesNotSay) {
  const auto request = completion(R"("temperature":null,"stop":null)");

  ASSERT_TRUE(request);
  EXPECT_FALSE(request->temperature || request->top_p || request->top_k || request->min_p ||
               request->seed || request->drawn_seed || request->completion_tokens_max);
  EXPECT_TRUE(request->stop.empty());
}

TEST(NativeRequest, PrefersMaxCompletionTokens) {
  const auto request = native(
      Surface::kChat,
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":5,"max_completion_tokens":9})");

  ASSERT_TRUE(request);
  EXPECT_EQ(request->completion_tokens_max, 9);
}

TEST(NativeRequest, ReadsTheExtension) {
  const auto request = completion(R"("mlxs":{"seed":18446744073709551615,"token_ids":true})");

  ASSERT_TRUE(request);
  EXPECT_EQ(request->drawn_seed, 0xffff'ffff'ffff'ffffU);
  EXPECT_TRUE(request->want_token_ids);
}

TEST(NativeRequest, TakesAPromptInFourForms) {
  const auto prompt = [](std::string_view text) {
    auto request =
        native(Surface::kCompletions, R"({"model":"m","prompt":)" + std::string{text} + "}");
    return request.value().prompts.at(0);
  };
  using Ids = std::vector<std::int32_t>;

  EXPECT_EQ(std::get<std::string>(prompt(R"("a")")), "a");
  EXPECT_EQ(std::get<std::string>(prompt(R"(["a"])")), "a");
  EXPECT_EQ(std::get<Ids>(prompt("[1,2]")), (Ids{1, 2}));
  EXPECT_EQ(std::get<Ids>(prompt("[[1,2]]")), (Ids{1, 2}));
}

TEST(NativeRequest, TakesSeveralPrompts) {
  for (const std::string_view list : {R"(["a","b"])", "[[1],[2]]"}) {
    const auto request =
        native(Surface::kCompletions, R"({"model":"m","prompt":)" + std::string{list} + "}");

    ASSERT_TRUE(request);
    EXPECT_EQ(request->prompts.size(), 2U);
  }
}

TEST(NativeRequest, HasAtMost128ChoicesAltogether) {
  const auto with = [](int prompts, std::string_view more) {
    std::string list = R"("a")";
    for (int k = 1; k < prompts; ++k) list += R"(,"a")";
    return native(Surface::kCompletions,
                  R"({"model":"m","prompt":[)" + list + "]" + std::string{more} + "}");
  };

  EXPECT_TRUE(with(64, R"(,"n":2)"));
  EXPECT_TRUE(with(128, {}));
  EXPECT_EQ(with(129, {}).error().param, "prompt");
  EXPECT_EQ(with(65, R"(,"n":2)").error().param, "n");
  EXPECT_EQ(with(65, R"(,"best_of":2)").error().param, "n");
}

TEST(NativeRequest, TheBestOfFewerThanAreWantedIsNothing) {
  EXPECT_EQ(completion(R"("n":3)").value().best_of, 3);
  EXPECT_EQ(completion(R"("n":2,"best_of":5)").value().best_of, 5);
  EXPECT_EQ(completion(R"("n":3,"best_of":2)").error().param, "best_of");
}

TEST(NativeRequest, TopLogprobsNeedLogprobs) {
  const auto chat = [](std::string_view more) {
    return native(
        Surface::kChat,
        R"({"model":"m","messages":[{"role":"user","content":"x"}],)" + std::string{more} + "}");
  };

  EXPECT_EQ(chat(R"("logprobs":true)").value().top_logprobs, 0);
  EXPECT_EQ(chat(R"("logprobs":true,"top_logprobs":20)").value().top_logprobs, 20);
  EXPECT_EQ(chat(R"("logprobs":false)").value().top_logprobs, std::nullopt);
  EXPECT_EQ(chat(R"("top_logprobs":1)").error().param, "top_logprobs");
  EXPECT_EQ(completion(R"("logprobs":0)").value().top_logprobs, 0);
}

TEST(NativeRequest, AMinimumIsNotAboveTheMaximum) {
  EXPECT_TRUE(completion(R"("min_tokens":5,"max_tokens":5)"));
  EXPECT_EQ(completion(R"("min_tokens":6,"max_tokens":5)").error().param, "min_tokens");
}

TEST(NativeRequest, TakesStreamOptionsOnlyWithAStream) {
  const auto request = completion(R"("stream_options":{"include_usage":true})");

  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().param, "stream_options");
}

TEST(NativeRequest, PassesTemplateArgumentsOn) {
  const auto request = native(
      Surface::kChat,
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"z":true,"a":[1]}})");

  ASSERT_TRUE(request);
  EXPECT_EQ(request->template_arguments_json, R"({"z":true,"a":[1]})");
}

TEST(NativeRequest, ErrorsSayWhatWasExpectedAndWhatCame) {
  EXPECT_EQ(completion(R"("temperature":3.5)").error().message,
            "Invalid 'temperature': expected a number from 0 to 2, got 3.5E0.");
  EXPECT_EQ(completion(R"("max_tokens":0)").error().message,
            "Invalid 'max_tokens': expected at least 1 without echo, got 0.");
  EXPECT_EQ(completion(R"("max_tokens":0,"echo":true)")->completion_tokens_max, 0);
  EXPECT_EQ(completion(R"("top_p":0)").error().message,
            "Invalid 'top_p': expected a number above 0 and at most 1, got 0.");
  EXPECT_EQ(completion(R"("stop":["a",7])").error().param, "stop[1]");
  EXPECT_EQ(
      native(Surface::kChat,
             R"({"model":"m","messages":[{"role":"user","content":"x"}],"verbosity":"low"})")
          .error()
          .message,
      "Unsupported parameter: 'verbosity' cannot be honoured by this server; leave it out or send "
      "\"medium\".");
}

TEST(UndocumentedFields, AreNamed) {
  const auto envelope =
      parse_envelope(Surface::kChat, R"({"model":"m","frobnicate":1,"temperature":9})");

  EXPECT_THAT(undocumented_fields(*envelope), ElementsAre("frobnicate"));
}

}  // namespace
}  // namespace mlxs::api
