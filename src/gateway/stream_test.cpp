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

TEST(Stream, PassesTokensOnAsTheyComeAndEndsWithDone) {
  NativePair pair;
  pair.worker.set_script(
      {token("Hello"), gate("a"), token(" world"), finish(), usage(3, 2), done()});
  Client client{pair.gateway.api()};

  client.post("/v1/chat/completions", chat_body(R"(,"stream":true)"));
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
}

}  // namespace
}  // namespace mlxs::gateway
