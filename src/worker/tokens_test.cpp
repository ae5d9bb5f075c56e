#include "worker/worker_fixture.h"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::worker {
namespace {

namespace json = boost::json;

class Tokens : public testing::Test {
 protected:
  Tokens() { worker_.wait_ready(); }
  RunningWorker worker_;
};

TEST_F(Tokens, TurnBackIntoTheirText) {
  const auto tokens = json_of(post(worker_, "/tokenize", R"({"prompt":"né","add_special":false})"));
  const auto text =
      json_of(post(worker_,
                   "/detokenize",
                   fmt::format(R"({{"tokens":{}}})", json::serialize(tokens.at("tokens")))));

  EXPECT_EQ(json::serialize(tokens.at("tokens")), "[110,195,169]");
  EXPECT_EQ(tokens.at("count").as_int64(), 3);
  EXPECT_EQ(tokens.at("max_model_len").as_int64(), 2048);
  EXPECT_EQ(text.at("content").as_string(), "né");
  EXPECT_EQ(text.at("prompt").as_string(), "né");
}

TEST_F(Tokens, OfContentAndPromptAreTheSameAndSpecialUnlessToldNot) {
  for (const char* body : {R"({"content":"a"})", R"({"prompt":"a","add_special_tokens":true})"})
    EXPECT_EQ(json::serialize(json_of(post(worker_, "/tokenize", body)).at("tokens")), "[1,97]");
}

TEST_F(Tokens, OfMessagesGoThroughTheTemplate) {
  const auto tokens =
      json_of(post(worker_, "/tokenize", R"({"messages":[{"role":"user","content":"hi"}]})"));

  EXPECT_EQ(tokens.at("count").as_int64(), 20);  // "user: hi\nassistant: "
}

TEST_F(Tokens, OfALongTextComeFromTheTextThread) {
  const std::string text(100'000, 'x');

  const auto tokens =
      json_of(post(worker_, "/tokenize", R"({"prompt":")" + text + R"(","add_special":false})"));

  EXPECT_EQ(tokens.at("count").as_int64(), 100'000);
}

TEST_F(Tokens, WrongRequestsNameTheField) {
  const auto refused = [&](const char* target, std::string_view body) {
    const auto response = post(worker_, target, body);
    EXPECT_EQ(response.status, 400) << body;
    return error_of(response);
  };

  EXPECT_EQ(refused("/tokenize", "{"), "invalid_value ");
  EXPECT_EQ(refused("/tokenize", "[]"), "invalid_value ");
  EXPECT_EQ(refused("/tokenize", "{}"), "invalid_value ");
  EXPECT_EQ(refused("/tokenize", R"({"x":)" + std::string(70, '[') + std::string(70, ']') + "}"),
            "invalid_value ");
  EXPECT_EQ(refused("/tokenize", R"({"prompt":7})"), "invalid_value prompt");
  EXPECT_EQ(refused("/tokenize", R"({"prompt":"x","add_special":1})"), "invalid_value add_special");
  EXPECT_EQ(refused("/tokenize", R"({"messages":[]})"), "invalid_value messages");
  EXPECT_EQ(refused("/detokenize", "{}"), "invalid_value tokens");
  EXPECT_EQ(refused("/detokenize", R"({"tokens":[1,"a"]})"), "invalid_value tokens[1]");
  EXPECT_EQ(refused("/detokenize", R"({"tokens":[-1]})"), "invalid_value tokens[0]");
  EXPECT_EQ(refused("/detokenize", R"({"tokens":[257]})"), "invalid_value tokens[0]");
}

TEST_F(Tokens, ModelsAreListedAndFoundByPlainAndEscapedNames) {
  EXPECT_EQ(json_of(get(worker_, "/v1/models")).at("data").at(0).at("id").as_string(), "fake");
  EXPECT_EQ(json_of(get(worker_, "/v1/models/fake")).at("max_model_len").as_int64(), 2048);
  EXPECT_EQ(get(worker_, "/v1/models/%66ake").status, 200);
  const auto missing = get(worker_, "/v1/models/a/b%2Fc");
  EXPECT_EQ(missing.status, 404);
  EXPECT_NE(missing.body.find("a/b/c"), std::string::npos);
}

TEST_F(Tokens, UnknownRoutesAre404AndWrongMethods405) {
  EXPECT_EQ(error_of(get(worker_, "/nowhere")), "not_found ");
  EXPECT_EQ(get(worker_, "/v1/models/").status, 404);
  const auto wrong = get(worker_, "/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.get("allow"), "POST");
  const auto text =
      post(worker_, "/tokenize", R"({"prompt":"x"})", {{"content-type", "text/plain"}});
  EXPECT_EQ(text.status, 415);
  EXPECT_EQ(post(worker_,
                 "/tokenize",
                 R"({"prompt":"x"})",
                 {{"content-type", "Application/JSON ; charset=utf-8"}})
                .status,
            200);
}

}  // namespace
}  // namespace mlxs::worker
