#include "base/hash.h"
#include "gateway/testing/test_gateway.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

using namespace script;
using testing::HasSubstr;
using testing::StartsWith;

http::Request request_of(std::string method, std::string path, http::Headers headers = {}) {
  return {.method = std::move(method), .target = std::move(path), .headers = std::move(headers)};
}

Answer call(const http::Address& address, const http::Request& request) {
  Client client{address};
  client.send(request);
  return client.read();
}

TEST(Http, EveryAnswerCarriesItsRequestId) {
  NativePair pair;

  const Answer ours = pair.gateway.chat();
  const Answer theirs = pair.gateway.chat("", headers_of({{"x-request-id", "mine-1"}}));
  const Answer error = get(pair.gateway.api(), "/nowhere");

  EXPECT_THAT(ours.header("x-request-id"), StartsWith("req_"));
  EXPECT_EQ(theirs.header("x-request-id"), "mine-1");
  EXPECT_THAT(error.header("x-request-id"), StartsWith("req_"));
  EXPECT_FALSE(ours.header("openai-processing-ms").empty());
  EXPECT_FALSE(ours.header("openai-version").empty());
}

TEST(Http, UnknownRoutesAndMethodsHaveOpenAIsErrorShape) {
  TestGateway gateway{native_yaml()};

  for (const auto& address : {gateway.api(), gateway.admin()}) {
    const Answer unknown = get(address, "/v2/chat");
    EXPECT_EQ(unknown.status, 404);
    EXPECT_EQ(unknown.error_code(), "not_found");
    EXPECT_EQ(unknown.header("x-should-retry"), "false");

    const Answer wrong = call(address, request_of("DELETE", "/health"));
    EXPECT_EQ(wrong.status, 405);
    EXPECT_EQ(wrong.error_code(), "method_not_allowed");
    EXPECT_EQ(wrong.header("allow"), "GET");
  }
  EXPECT_EQ(get(gateway.api(), "/v1/chat/completions").header("allow"), "POST");
  EXPECT_EQ(get(gateway.api(), "/metrics").status, 404);
  EXPECT_EQ(post(gateway.admin(), "/v1/chat/completions", chat_body()).status, 404);
}

TEST(Http, BodiesMustBeJson) {
  NativePair pair;

  const Answer text = post(pair.gateway.api(),
                           "/v1/chat/completions",
                           chat_body(),
                           headers_of({{"content-type", "text/plain"}}));
  const Answer broken = post(pair.gateway.api(), "/v1/chat/completions", "{");

  EXPECT_EQ(text.status, 415);
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(pair.worker.requests(), 0U);
}

TEST(Http, WhatANativeModelCannotHonourIsRefusedBeforeAnyWorkerIsTouched) {
  NativePair pair;

  const Answer answer = pair.gateway.chat(R"(,"temperature":"hot")");

  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json().at("error").at("param"), "temperature");
  EXPECT_EQ(pair.worker.requests(), 0U);
}

TEST(Http, AnUnknownModelIs404) {
  NativePair pair;

  const Answer answer = post(pair.gateway.api(), "/v1/chat/completions", chat_body("", "other"));

  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.error_code(), "model_not_found");
  EXPECT_EQ(answer.json().at("error").at("param"), "model");
}

TEST(Http, ModelsAreListedWithoutAnyWorker) {
  TestGateway gateway{
      "models:\n  - id: org/name\n    source: a.gguf\n  - id: b\n    source: b.gguf\n"};

  const Answer list = get(gateway.api(), "/v1/models");

  EXPECT_EQ(list.json().at("object"), "list");
  EXPECT_EQ(list.json().at("data").as_array().size(), 2U);
  EXPECT_EQ(list.json().at("data").at(0).at("id"), "org/name");
  EXPECT_EQ(list.json().at("data").at(0).at("object"), "model");
  for (const char* path : {"/v1/models/org/name", "/v1/models/org%2Fname"})
    EXPECT_EQ(get(gateway.api(), path).json().at("id"), "org/name") << path;
  EXPECT_EQ(get(gateway.api(), "/v1/models/none").error_code(), "model_not_found");
}

TEST(Http, WithKeysEveryRouteButHealthNeedsOneOnBothListeners) {
  const std::string keys = "keys: [ { name: ann, sha256: " + to_hex(sha256("secret")) + " } ]\n";
  NativePair pair{keys};

  EXPECT_EQ(pair.gateway.chat().status, 401);
  EXPECT_EQ(get(pair.gateway.api(), "/v1/models").error_code(), "invalid_api_key");
  EXPECT_EQ(get(pair.gateway.api(), "/health").status, 200);
  EXPECT_EQ(get(pair.gateway.admin(), "/health").status, 200);
  EXPECT_EQ(get(pair.gateway.admin(), "/admin/v1/status").error_code(), "invalid_api_key");
  EXPECT_EQ(get(pair.gateway.admin(), "/metrics").status, 401);
  const auto key = headers_of({{"authorization", "Bearer secret"}});
  EXPECT_EQ(pair.gateway.chat("", key).status, 200);
  EXPECT_EQ(get(pair.gateway.admin(), "/admin/v1/status", key).status, 200);
}

TEST(Http, PagesOfOtherSitesAreRefusedOnBothListeners) {
  TestGateway gateway{native_yaml()};

  for (const auto& address : {gateway.api(), gateway.admin()}) {
    EXPECT_EQ(get(address, "/health", headers_of({{"host", "evil.example"}})).status, 403);
    EXPECT_EQ(get(address, "/health", headers_of({{"origin", "https://evil.example"}})).status,
              403);
    EXPECT_EQ(get(address, "/health", headers_of({{"host", "127.0.0.1:9999"}})).status, 200);
  }
}

TEST(Http, AnAllowedOriginGetsItsPreflightAndItsHeaders) {
  NativePair pair{"allowed_origins: [ \"https://app.example\" ]\n"};
  const auto origin =
      headers_of({{"origin", "https://app.example"}, {"access-control-request-method", "POST"}});

  const Answer preflight =
      call(pair.gateway.api(), request_of("OPTIONS", "/v1/chat/completions", origin));
  const Answer answer = pair.gateway.chat("", headers_of({{"origin", "https://app.example"}}));
  const Answer plain = pair.gateway.chat();

  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("access-control-allow-origin"), "https://app.example");
  EXPECT_THAT(preflight.header("access-control-allow-headers"), HasSubstr("authorization"));
  EXPECT_EQ(preflight.header("access-control-allow-methods"), "POST");
  EXPECT_EQ(answer.header("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(plain.header("access-control-allow-origin"), "");
}

TEST(Http, MoreThanTheInFlightLimitIs429WithRetryAfter) {
  NativePair pair{"limits: { in_flight: 1 }\n"};
  pair.worker.set_script({gate("a"), token("x"), finish(), usage(1, 1), done()});
  Client first{pair.gateway.api()};
  first.post("/v1/chat/completions", chat_body());
  ASSERT_TRUE(pair.gateway.wait_metric("mlx_requests_in_flight", 1));

  const Answer refused = pair.gateway.chat(kPrivate);
  pair.worker.open("a");

  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.error_code(), "overloaded");
  EXPECT_GE(std::stoi(refused.header("retry-after")), 1);
  EXPECT_EQ(refused.header("x-should-retry"), "true");
  EXPECT_EQ(first.read().status, 200);
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_rejected_total{reason="overloaded"})", 1));
}

TEST(Http, TheRequestsOwnDeadlineIs504OrAnErrorEvent) {
  NativePair pair;
  pair.worker.set_script({token("Hel"), hang()});

  const Answer whole = pair.gateway.chat(kPrivate, headers_of({{"x-request-timeout-ms", "50"}}));
  Answer stream;
  // Longer and longer, until the deadline leaves the stream the time to begin.
  for (int ms = 50; stream.status != 200 && ms < 60'000; ms *= 4)
    stream = pair.gateway.chat(kPrivateStream,
                               headers_of({{"x-request-timeout-ms", std::to_string(ms).c_str()}}));

  EXPECT_EQ(whole.status, 504);
  EXPECT_EQ(whole.error_code(), "deadline_exceeded");
  EXPECT_THAT(stream.body, HasSubstr("Hel"));
  EXPECT_THAT(stream.body, HasSubstr(R"("code":"deadline_exceeded")"));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_worker_inflight{worker="m/0"})", 0));
}

TEST(Http, AnSdkTimeoutIsTheTotalOfAWholeAnswer) {
  NativePair pair;
  pair.worker.set_script({hang()});

  const Answer answer = pair.gateway.chat("", headers_of({{"x-stainless-read-timeout", "0.05"}}));

  EXPECT_EQ(answer.status, 504);
}

TEST(Http, ADeadlineThatPassesWhileParkedIs504) {
  TestGateway gateway{native_yaml()};

  EXPECT_EQ(gateway.chat("", headers_of({{"x-request-timeout-ms", "30"}})).status, 504);
}

TEST(Http, LimitsOfTheConfigurationHold) {
  NativePair pair{"limits: { body_bytes: 2KiB, head_bytes: 1KiB }\n"};

  EXPECT_EQ(pair.gateway.chat(R"(,"user":")" + std::string(3000, 'x') + "\"").status, 413);
  EXPECT_EQ(pair.gateway.chat("", headers_of({{"x-long", std::string(2000, 'x').c_str()}})).status,
            431);
}

}  // namespace
}  // namespace mlxs::gateway
