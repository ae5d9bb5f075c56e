#include "api/errors.h"
#include "gateway/stages/admission.h"
#include "gateway/stages/auth.h"
#include "gateway/stages/deadline.h"
#include "gateway/stages/guard.h"
#include "gateway/stages/model.h"
#include "gateway/stages/request_id.h"
#include "gateway/testing/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace mlxs::gateway {
namespace {

using testing::StartsWith;

http::Request with(std::initializer_list<std::pair<const char*, const char*>> fields) {
  http::Request request;
  request.headers = headers_of(fields);
  request.arrived_at = Clock::now();
  return request;
}

SettingsPtr settings(config::Config config) {
  if (config.models.empty()) config.models.push_back({.id = "m", .source = "m.gguf"});
  return Settings::make(std::move(config));
}

TEST(Guard, LoopbackNamesTheListenAddressAndAllowedHostsPassWithAnyPort) {
  config::Config config;
  config.listen = "192.168.1.5:8080";
  config.allowed_hosts = {"Box.Local", "other.local:8443", "[fd00::1]:80", "fd00::2"};
  const auto rules = settings(config)->api_guard;

  for (const char* host : {"localhost",
                           "LOCALHOST:1",
                           "127.0.0.1:9",
                           "[::1]:8080",
                           "192.168.1.5:8080",
                           "box.local:80",
                           "other.local",
                           "other.local:1",
                           "[fd00::1]",
                           "[fd00::2]:8080"})
    EXPECT_TRUE(check_guards(rules, with({{"host", host}}))) << host;
  for (const char* host : {"evil.example", "192.168.1.6", "localhost.evil.example", "10.0.0.1", ""})
    EXPECT_EQ(check_guards(rules, with({{"host", host}})).error().code, ErrorCode::kForbidden)
        << host;
  EXPECT_FALSE(check_guards(rules, with({})));
}

TEST(Guard, OnAWildcardListenerIpLiteralsPassAndNamesDoNot) {
  config::Config config;
  config.listen = "0.0.0.0:8080";
  const auto rules = settings(config)->api_guard;

  EXPECT_TRUE(check_guards(rules, with({{"host", "10.1.2.3:8080"}})));
  EXPECT_TRUE(check_guards(rules, with({{"host", "[fe80::1]:8080"}})));
  EXPECT_FALSE(check_guards(rules, with({{"host", "rebound.example:8080"}})));
}

TEST(Guard, OnlyListedOriginsPass) {
  config::Config config;
  config.allowed_origins = {"https://app.example"};
  const auto rules = settings(config)->api_guard;

  const auto listed =
      check_guards(rules, with({{"host", "localhost"}, {"origin", "https://app.example"}}));
  const auto other =
      check_guards(rules, with({{"host", "localhost"}, {"origin", "https://evil.example"}}));

  ASSERT_TRUE(listed);
  EXPECT_EQ(*listed, "https://app.example");
  EXPECT_EQ(other.error().code, ErrorCode::kForbidden);
  EXPECT_FALSE(check_guards(rules, with({{"host", "localhost"}, {"origin", "null"}})));
}

TEST(Guard, OnlyJsonBodiesPass) {
  EXPECT_TRUE(check_content_type(with({{"content-type", "application/json"}})));
  EXPECT_TRUE(check_content_type(with({{"content-type", "Application/JSON; charset=utf-8"}})));
  EXPECT_TRUE(check_content_type(with({{"content-type", "application/json ; charset=utf-8"}})));
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "application/jsonx"})
    EXPECT_EQ(check_content_type(with({{"content-type", type}})).error().code,
              ErrorCode::kUnsupportedMedia);
  EXPECT_FALSE(check_content_type(with({})));
}

TEST(Auth, WithoutKeysAnyAuthorizationIsIgnored) {
  EXPECT_EQ(*authenticate({}, with({{"authorization", "Bearer whatever"}})), "");
  EXPECT_EQ(*authenticate({}, with({})), "");
}

TEST(Auth, AnyOfSeveralKeysNamesItsOwner) {
  const std::vector<config::Key> keys{{.name = "ann", .sha256 = sha256("secret-a")},
                                      {.name = "bob", .sha256 = sha256("secret-b")}};

  EXPECT_EQ(*authenticate(keys, with({{"authorization", "Bearer secret-a"}})), "ann");
  EXPECT_EQ(*authenticate(keys, with({{"authorization", "bearer secret-b"}})), "bob");
  for (const char* value : {"Bearer secret-c", "Bearer ", "Bearer", "secret-a", "Basic secret-a"})
    EXPECT_EQ(authenticate(keys, with({{"authorization", value}})).error().code,
              ErrorCode::kUnauthorized)
        << value;
  EXPECT_EQ(authenticate(keys, with({})).error().code, ErrorCode::kUnauthorized);
}

TEST(DeadlineStage, XRequestTimeoutBoundsTheWholeRequest) {
  const auto request = with({{"x-request-timeout-ms", "1500"}});

  const auto patience = read_patience(request, true);

  ASSERT_TRUE(patience);
  EXPECT_EQ(patience->deadline.when(), request.arrived_at + Milliseconds{1500});
  EXPECT_FALSE(patience->next_byte);
}

TEST(DeadlineStage, WhatIsNoPositiveNumberIsRefused) {
  for (const char* value : {"0", "-1", "soon", "1.5", "", "10s"}) {
    const auto patience = read_patience(with({{"x-request-timeout-ms", value}}), false);
    ASSERT_FALSE(patience) << value;
    EXPECT_EQ(patience.error().param, "x-request-timeout-ms");
  }
}

TEST(DeadlineStage, SdkTimeoutsAreTheTotalOfAWholeAnswerAndTheNextByteOfAStream) {
  for (const char* name : {"x-stainless-read-timeout", "x-stainless-timeout"}) {
    const auto request = with({{name, "2.5"}});

    const auto whole = read_patience(request, false);
    const auto stream = read_patience(request, true);

    EXPECT_EQ(whole->deadline.when(), request.arrived_at + Milliseconds{2500}) << name;
    EXPECT_FALSE(stream->deadline.reachable());
    EXPECT_EQ(stream->next_byte, Milliseconds{2500});
  }
}

TEST(DeadlineStage, SdkTimeoutsThatMakeNoSenseAreIgnored) {
  for (const char* value : {"inf", "nan", "-1", "0", "NOT_GIVEN", "1e300"})
    EXPECT_FALSE(
        read_patience(with({{"x-stainless-read-timeout", value}}), false)->deadline.reachable())
        << value;
}

TEST(RequestId, KeepsASaneOneAndReplacesOthers) {
  EXPECT_EQ(request_id(with({{"x-request-id", "abc-1_2.3:4"}})), "abc-1_2.3:4");
  for (const std::string& id : {std::string{}, std::string{"a b"}, std::string(129, 'a')})
    EXPECT_THAT(request_id(with({{"x-request-id", id.c_str()}})), StartsWith("req_"));
  EXPECT_NE(request_id(with({})), request_id(with({})));
}

TEST(Admission, RefusesBeyondItsLimitAndTakesAgainWhatLeft) {
  Admission admission;
  auto first = admission.try_enter(2);
  {
    const auto second = admission.try_enter(2);
    ASSERT_TRUE(first && second);
    EXPECT_FALSE(admission.try_enter(2));
    EXPECT_EQ(admission.in_flight(), 2);
  }

  EXPECT_TRUE(admission.try_enter(2));
}

TEST(Admission, RetryAfterFollowsTheRateOfCompletions) {
  const TimePoint now = Clock::now();
  Admission admission;
  EXPECT_EQ(admission.retry_after_s(now), 10);

  for (int i = 0; i < 20; ++i) (void)admission.try_enter(1000);  // 20 completions in this window
  for (int i = 0; i < 60; ++i) (void)admission.try_enter(0, now);

  // 60 come back, 2 places come free a second.
  EXPECT_NEAR(admission.retry_after_s(now), 30, 1);
  EXPECT_EQ(admission.retry_after_s(now + std::chrono::seconds{30}), 10);
}

TEST(Admission, RetryAfterIsAtLeastOneSecondAndAtMostAMinute) {
  const TimePoint now = Clock::now();
  Admission fast;
  for (int i = 0; i < 1000; ++i) (void)fast.try_enter(1);
  Admission slow;
  (void)slow.try_enter(1);
  for (int i = 0; i < 1000; ++i) (void)slow.try_enter(0, now);

  EXPECT_EQ(fast.retry_after_s(now), 1);
  EXPECT_EQ(slow.retry_after_s(now), 60);
}

TEST(Model, IdsMayBePercentEncoded) {
  EXPECT_EQ(percent_decoded("org%2Fname"), "org/name");
  EXPECT_EQ(percent_decoded("org/name"), "org/name");
  EXPECT_EQ(percent_decoded("100%"), "100%");
  EXPECT_EQ(percent_decoded("%zz%4"), "%zz%4");
}

}  // namespace
}  // namespace mlxs::gateway
