#include "api/errors.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace mlxs::api {
namespace {

constexpr int kCodes = static_cast<int>(ErrorCode::kInternal) + 1;

TEST(ErrorObject, HasOpenAisShape) {
  EXPECT_EQ(
      boost::json::serialize(error_object({ErrorCode::kInvalidRequest, "bad \"x\"", "stop[1]"})),
      R"({"error":{"message":"bad \"x\"","type":"invalid_request_error","param":"stop[1]","code":"invalid_value"}})");
  EXPECT_EQ(
      boost::json::serialize(error_object({ErrorCode::kOverloaded, "full"})),
      R"({"error":{"message":"full","type":"rate_limit_error","param":null,"code":"overloaded"}})");
}

TEST(ErrorResponse, SaysWhetherAndWhenToRetry) {
  const auto full = error_response({ErrorCode::kOverloaded, "full"}, 3);
  const auto bad = error_response({ErrorCode::kInvalidRequest, "bad"});

  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.headers.get("retry-after"), "3");
  EXPECT_EQ(full.headers.get("x-should-retry"), "true");
  EXPECT_EQ(full.headers.get("content-type"), "application/json");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.headers.get("x-should-retry"), "false");
  EXPECT_FALSE(bad.headers.get("retry-after"));
}

TEST(ReadError, EveryCodeSurvivesTheWayThroughAWorker) {
  for (int k = 0; k < kCodes; ++k) {
    const Error sent{static_cast<ErrorCode>(k), "why", "field"};
    const auto response = error_response(sent);

    const Error read = read_error(response.status, response.body);

    EXPECT_EQ(read.code, sent.code) << error_info(sent.code).wire_code;
    EXPECT_EQ(read.message, "why");
    EXPECT_EQ(read.param, "field");
  }
}

TEST(ReadError, UnderstandsOtherServersShapes) {
  EXPECT_EQ(read_error(400, R"({"error":"bare"})").message, "bare");
  EXPECT_EQ(read_error(422, R"({"detail":"fast api"})").message, "fast api");
  EXPECT_EQ(read_error(422, R"({"detail":[{"msg":"m"}]})").message, R"([{"msg":"m"}])");
  EXPECT_EQ(read_error(422, R"({"detail":"x"})").code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(read_error(500, R"({"object":"error","message":"vllm","code":500})").message, "vllm");
  EXPECT_EQ(read_error(502, "<html>bad gateway</html>").message, "<html>bad gateway</html>");
  EXPECT_EQ(read_error(503, "").message, "The upstream answered 503.");
}

TEST(ReadError, TheStatusPicksTheCode) {
  EXPECT_EQ(read_error(404, R"({"error":{"message":"m","code":"overloaded"}})").code,
            ErrorCode::kNotFound);
  EXPECT_EQ(read_error(429, "slow down").code, ErrorCode::kOverloaded);
  EXPECT_EQ(read_error(503, "later").code, ErrorCode::kUnavailable);
  EXPECT_EQ(read_error(418, "teapot").code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(read_error(599, "odd").code, ErrorCode::kInternal);
  EXPECT_EQ(read_error(302, "elsewhere").code, ErrorCode::kWorkerProtocol);
}

TEST(ReadError, KnowsAContextOverflowByItsWords) {
  EXPECT_EQ(
      read_error(400, R"({"error":{"message":"This model's maximum context length is 5."}})").code,
      ErrorCode::kContextLengthExceeded);
}

}  // namespace
}  // namespace mlxs::api
