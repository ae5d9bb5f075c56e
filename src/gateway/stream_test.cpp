#include "gateway/testing/test_gateway.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using namespace script;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const char* kStream = R"(,"stream":true)";

TEST(Stream, PassesTokensOnAsTheyComeAndEndsWithDone) {
  NativePair pair;
  pair.worker.set_script(
      {token("Hello"), gate("a"), token(" world"), finish(), usage(3, 2), done()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(kStream));
  const Answer head = client.read_head();
  const auto role = client.next_event();
  const auto first = client.next_event();
  pair.worker.open("a");
  std::string last;
  std::string all;
  while (const auto event = client.next_event()) all += last = *event;

  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.header("content-type"), HasSubstr("text/event-stream"));
  EXPECT_EQ(head.header("x-accel-buffering"), "no");
  EXPECT_EQ(head.header("cache-control"), "no-store");
  EXPECT_THAT(role.value_or(""), HasSubstr("assistant"));
  EXPECT_THAT(first.value_or(""), HasSubstr("Hello"));
  EXPECT_THAT(all, HasSubstr(" world"));
  EXPECT_EQ(last, "[DONE]");
  EXPECT_TRUE(client.complete());
}

TEST(Stream, WholeAnswersAreRenderedFromTheSameStream) {
  NativePair pair;

  const Answer answer = pair.gateway.chat();

  ASSERT_EQ(answer.status, 200);
  const json::value body = answer.json();
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), "Hello world");
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 3);
  EXPECT_EQ(body.at("usage").at("completion_tokens"), 2);
  EXPECT_EQ(body.at("model"), "m");
  EXPECT_THAT(std::string{body.at("id").as_string()}, StartsWith("chatcmpl-"));
}

TEST(Stream, CompletionsHaveTheirOwnShape) {
  NativePair pair;
  pair.worker.set_script(
      {completion_token("a"), completion_token("b"), finish(), usage(1, 2), done()});

  const Answer answer =
      post(pair.gateway.api(), "/v1/completions", R"({"model":"m","prompt":"x"})");

  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.json().at("object"), "text_completion");
  EXPECT_EQ(answer.json().at("choices").at(0).at("text"), "ab");
}

TEST(Stream, UsageComesLastAndOnlyWhereItWasAskedFor) {
  NativePair pair;
  Client asked{pair.gateway.api()};
  Client silent{pair.gateway.api()};

  asked.post("/v1/chat/completions",
             chat_body(R"(,"stream":true,"stream_options":{"include_usage":true})"));
  silent.post("/v1/chat/completions", chat_body(kStream));
  const std::string with = asked.read().body;
  const std::string without = silent.read().body;

  EXPECT_THAT(with, HasSubstr(R"("completion_tokens":2)"));
  EXPECT_LT(with.find("finish_reason\":\"stop\""), with.find("completion_tokens"));
  EXPECT_THAT(without, Not(HasSubstr("usage")));
}

TEST(Stream, TokenIdsGoOutOnlyToThoseWhoAsk) {
  NativePair pair;
  Client asked{pair.gateway.api()};
  Client silent{pair.gateway.api()};

  asked.post("/v1/chat/completions", chat_body(R"(,"stream":true,"mlxs":{"token_ids":true})"));
  silent.post("/v1/chat/completions", chat_body(kStream));

  EXPECT_THAT(asked.read().body, HasSubstr("\"token_ids\":[101]"));
  EXPECT_THAT(silent.read().body, Not(HasSubstr("token_ids")));
}

// R-STR-5
TEST(Stream, KeepAliveCommentsComeWhileNothingElseDoes) {
  NativePair pair{"timeouts: { keep_alive_ms: 10 }\n"};
  pair.worker.set_script({gate("a"), token("late"), finish(), usage(1, 1), done()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(kStream));
  const Answer head = client.read_head();
  const auto first = client.next_event();
  const auto second = client.next_event();
  pair.worker.open("a");

  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(first.value_or(""), StartsWith(":"));
  EXPECT_THAT(second.value_or(""), StartsWith(":"));
  EXPECT_EQ(read_text(client), "late");
}

TEST(Stream, AClientsPatienceForTheNextByteBringsCommentsInTime) {
  NativePair pair;
  pair.worker.set_script({gate("a"), token("late"), finish(), usage(1, 1), done()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions",
              chat_body(kStream),
              headers_of({{"x-stainless-read-timeout", "0.05"}}));
  const Answer head = client.read_head();
  const auto comment = client.next_event();
  pair.worker.open("a");

  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(comment.value_or(""), StartsWith(":"));
  EXPECT_EQ(read_text(client), "late");
}

TEST(Stream, AnErrorBeforeTheHeadHasItsOwnStatus) {
  NativePair pair;
  pair.worker.set_script({answer(
      400,
      R"({"error":{"message":"maximum context length is 8 tokens","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}})")});

  const Answer answer = pair.gateway.chat(kStream);

  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.error_code(), "context_length_exceeded");
  EXPECT_EQ(answer.json().at("error").at("param"), "messages");
  EXPECT_EQ(answer.header("x-should-retry"), "false");
}

// R-STR-5
TEST(Stream, AnErrorAfterTheHeadIsATypedEventWithoutDone) {
  NativePair pair;
  pair.worker.set_script(
      {token("Hel"),
       event(R"({"error":{"message":"boom","type":"server_error","code":"out_of_memory"}})")});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(kStream));
  const Answer answer = client.read();

  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("Hel"));
  EXPECT_THAT(answer.body, HasSubstr(R"("code":"out_of_memory")"));
  EXPECT_THAT(answer.body, Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(answer.complete);
}

// R-STR-5
TEST(Stream, AWorkerThatDiesInMidStreamIsAnErrorEventNotSilence) {
  NativePair pair;
  pair.worker.set_script({token("Hel"), cut()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(kStream));
  const Answer answer = client.read();

  EXPECT_THAT(answer.body, HasSubstr("Hel"));
  EXPECT_THAT(answer.body, HasSubstr(R"("code":"worker_lost")"));
  EXPECT_THAT(answer.body, Not(HasSubstr("[DONE]")));
}

TEST(Stream, AWholeAnswerThatBrokeOffIsAnError) {
  NativePair pair;
  pair.worker.set_script({token("Hel"), cut()});

  const Answer answer = pair.gateway.chat();

  EXPECT_EQ(answer.status, 502);
  EXPECT_EQ(answer.error_code(), "worker_lost");
}

// R-STR-3: what arrives together goes out together.
TEST(Stream, EventsOfOneReadShareAWrite) {
  NativePair pair;
  std::string together;
  for (int i = 0; i < 20; ++i) together += token("x").text;
  pair.worker.set_script(
      {token("first"), gate("a"), raw(together), finish(), usage(1, 21), done()});
  Client client{pair.gateway.api()};
  client.post("/v1/chat/completions", chat_body(kStream));
  (void)client.read_head();
  (void)client.next_event();
  (void)client.next_event();
  const std::size_t before = client.chunks();

  pair.worker.open("a");
  for (int i = 0; i < 20; ++i) (void)client.next_event();

  EXPECT_LE(client.chunks() - before, 2U);
}

TEST(Stream, AnAnswerLongerThanItsBoundIsAnErrorAndTheWorkerStops) {
  NativePair pair{"limits: { answer_bytes: 1KiB }\n"};
  Script steps;
  for (int i = 0; i < 4; ++i) steps.push_back(token(std::string(400, 'x')));
  steps.push_back(hang());
  pair.worker.set_script(steps);
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(kStream));
  const Answer answer = client.read();

  EXPECT_THAT(answer.body, HasSubstr("limits.answer_bytes"));
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

// R-STR-2: the attempt goes on filling the log while the reader stands still; then it is dropped.
TEST(Stream, AReaderThatStandsStillIsDropped) {
  NativePair pair{"limits: { write_stall_ms: 50 }\n"};
  Script steps;
  for (int i = 0; i < 100; ++i) steps.push_back(token(std::string(100'000, 'x')));
  steps.push_back(gate("a"));
  pair.worker.set_script(steps);
  Client client{pair.gateway.api(), 4096};

  client.post("/v1/chat/completions", chat_body(kStream));
  (void)client.read_head();

  EXPECT_TRUE(pair.gateway.wait_metric("mlx_client_disconnects_total", 1));
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

TEST(Stream, AReaderThatLagsBehindGetsEverything) {
  NativePair pair;
  Script steps;
  for (int i = 0; i < 50; ++i) steps.push_back(token(std::string(100'000, 'x')));
  for (const Step& step : {token("end"), finish(), usage(1, 51), done()}) steps.push_back(step);
  pair.worker.set_script(steps);
  Client client{pair.gateway.api(), 4096};

  client.post("/v1/chat/completions", chat_body(kStream));
  (void)client.read_head();
  // The whole answer is in the log before the client reads on.
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_attempts_total{result="ok",worker="m/0"})", 1));

  EXPECT_EQ(read_text(client).size(), 50U * 100'000U + 3U);
}

}  // namespace
}  // namespace mlxs::gateway
