#include "gateway/testing/test_gateway.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using namespace script;
using testing::HasSubstr;

std::string header(const http::Request& request, std::string_view name) {
  const auto value = request.headers.get(name);
  return value ? std::string{*value} : std::string{};
}

TEST(Attempt, IsAlwaysStreamedWithUsageAndASeed) {
  NativePair pair;

  (void)pair.gateway.chat(R"(,"stream":false,"temperature":0.5)");
  const http::Request request = pair.worker.request(1);

  EXPECT_EQ(request.target, "/v1/chat/completions");
  const json::value body = json::parse(request.body);
  EXPECT_EQ(body.at("stream"), true);
  EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(body.at("mlxs").at("token_ids"), true);
  EXPECT_TRUE(body.at("mlxs").at("seed").is_number());
  EXPECT_EQ(body.at("temperature"), 0.5);
}

TEST(Attempt, EachRequestDrawsItsOwnSeed) {
  NativePair pair;

  (void)pair.gateway.chat(kPrivate);
  (void)pair.gateway.chat(kPrivate);

  const json::value first = json::parse(pair.worker.request(1).body);
  const json::value second = json::parse(pair.worker.request(2).body);
  EXPECT_NE(first.at("mlxs").at("seed"), second.at("mlxs").at("seed"));
}

TEST(Attempt, CarriesRequestIdTraceAndTheTimeThatIsLeft) {
  NativePair pair;

  (void)pair.gateway.chat(kPrivate,
                          headers_of({{"x-request-id", "abc-1"},
                                      {"traceparent", "00-0af7-b7ad-01"},
                                      {"x-request-timeout-ms", "600000"}}));
  const http::Request request = pair.worker.request(1);

  EXPECT_EQ(header(request, "x-request-id"), "abc-1");
  EXPECT_EQ(header(request, "traceparent"), "00-0af7-b7ad-01");
  const int left = std::stoi(header(request, "x-request-timeout-ms"));
  EXPECT_LE(left, 600'000);
  EXPECT_GT(left, 300'000);
}

TEST(Attempt, ForeignWorkersGetTheBodyUnchangedButForModelAndStream) {
  MockWorker worker;
  TestGateway gateway{foreign_yaml({worker.url()})};

  const Answer answer = gateway.chat(R"(,"exotic":{"z":1,"a":[2]},"stream_options":{"other":1})");
  const json::value body = json::parse(worker.request(1).body);

  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.json().at("model"), "m");
  EXPECT_EQ(body.at("model"), "their-name");
  EXPECT_EQ(body.at("stream"), true);
  EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(body.at("stream_options").at("other"), 1);
  EXPECT_EQ(json::serialize(body.at("exotic")), R"({"z":1,"a":[2]})");
  EXPECT_FALSE(body.as_object().contains("mlxs"));
}

TEST(Attempt, AForeignServerThatDoesNotStreamIsReadWhole) {
  MockWorker worker;
  worker.set_script({answer(
      200,
      R"({"choices":[{"index":0,"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}})",
      headers_of({{"content-type", "application/json"}}))});
  TestGateway gateway{foreign_yaml({worker.url()})};
  Client client{gateway.api()};

  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  (void)client.read_head();

  EXPECT_EQ(read_text(client), "whole");
  EXPECT_TRUE(client.complete());
}

TEST(Attempt, GarbageInAChunkIsAProtocolError) {
  NativePair pair;
  pair.worker.set_script({event("{not json")});

  const Answer answer = pair.gateway.chat();

  EXPECT_EQ(answer.status, 502);
  EXPECT_EQ(answer.error_code(), "worker_protocol");
}

TEST(Attempt, DoneWithoutAFinishReasonIsAProtocolError) {
  NativePair pair;
  pair.worker.set_script({token("half"), done()});

  EXPECT_EQ(pair.gateway.chat().error_code(), "worker_protocol");
}

TEST(Attempt, AFinishedAnswerWithoutDoneIsComplete) {
  NativePair pair;
  pair.worker.set_script({token("all"), finish(), usage(1, 1)});

  EXPECT_EQ(pair.gateway.chat().status, 200);
}

TEST(Attempt, AnAnswerEndsWhenAllItsChoicesHave) {
  const Step both = event(
      R"({"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"},"finish_reason":null}]})");
  const Step second = event(
      R"({"id":"x","object":"chat.completion.chunk","choices":[{"index":1,"delta":{},"finish_reason":"length"}]})");
  NativePair pair;

  pair.worker.set_script({both, done()});
  EXPECT_EQ(pair.gateway.chat().error_code(), "worker_protocol");

  pair.worker.set_script({both, second, done()});
  const Answer answer = pair.gateway.chat();
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.body.find(R"("index":1)"), std::string::npos);
}

TEST(Attempt, AForeignWorkerThatNeverAnswersEndsAtTheFirstTokenTimeout) {
  MockWorker worker;
  worker.set_script({hang()});
  TestGateway gateway{foreign_yaml({worker.url()}, "timeouts: { first_token_ms: 50 }\n")};

  const Answer answer = gateway.chat();

  EXPECT_EQ(answer.status, 504);
  EXPECT_TRUE(worker.wait_cancelled(1));
}

// R-STR-4
TEST(Attempt, SilenceAfterTheFirstTokenIsALostWorker) {
  NativePair pair{"timeouts: { token_ms: 50 }\n"};
  pair.worker.set_script({token("Hello"), hang()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
  const Answer answer = client.read();

  EXPECT_THAT(answer.body, HasSubstr(R"("code":"worker_lost")"));
  EXPECT_TRUE(pair.worker.wait_cancelled(1));
}

TEST(Attempt, CommentsOfAWorkerAreNoProgress) {
  NativePair pair{"timeouts: { token_ms: 100 }\n"};
  Script steps{token("Hello")};
  steps.push_back(raw(": still here\n\n"));
  steps.push_back(hang());
  pair.worker.set_script(steps);

  EXPECT_EQ(pair.gateway.chat().error_code(), "worker_lost");
}

TEST(Attempt, AWorkersOwnRefusalPassesWithItsRetryAfter) {
  NativePair pair;
  pair.worker.set_script({answer(
      429,
      R"({"error":{"message":"queue is full","type":"rate_limit_error","code":"overloaded"}})",
      headers_of({{"retry-after", "7"}}))});

  const Answer answer = pair.gateway.chat();

  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.header("retry-after"), "7");
  EXPECT_EQ(pair.worker.requests(), 1U);
}

TEST(Attempt, AWorkerThatSaysCancelledDoesNotPassForAClientThatLeft) {
  NativePair pair;
  pair.worker.set_script(
      {token("a"), event(R"({"error":{"message":"stopped","code":"cancelled"}})")});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));

  EXPECT_THAT(client.read().body, HasSubstr(R"("code":"worker_lost")"));
}

}  // namespace
}  // namespace mlxs::gateway
