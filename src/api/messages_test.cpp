#include "api/messages.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace mlxs::api {
namespace {

Result<std::string> messages(std::string_view text) {
  return template_messages(boost::json::parse(text).as_array());
}

/// Code and param of the error, "" if there is none.
std::string fault(std::string_view text) {
  const auto result = messages(text);
  if (result) return "";
  const bool unsupported = result.error().code == ErrorCode::kUnsupportedParameter;
  return (unsupported ? "unsupported " : "invalid ") + result.error().param;
}

TEST(Messages, ReachTheTemplateUntouchedAndInOrder) {
  constexpr std::string_view kText =
      R"([{"role":"system","content":"a"},{"content":"é\n\u0001","role":"user","name":"n","x":[1,{"b":2,"a":1}]}])";

  EXPECT_EQ(messages(kText).value(), kText);
}

TEST(Messages, DeveloperIsSystem) {
  EXPECT_EQ(messages(R"([{"role":"developer","content":"a"}])").value(),
            R"([{"role":"system","content":"a"}])");
}

TEST(Messages, TextPartsAreJoinedAndNullsDropped) {
  EXPECT_EQ(
      messages(
          R"([{"role":"user","name":null,"content":[{"type":"text","text":"a"},{"type":"text","text":"\"b"}]}])")
          .value(),
      R"([{"role":"user","content":"a\"b"}])");
}

TEST(Messages, AssistantMayCallToolsWithoutContent) {
  EXPECT_EQ(
      fault(
          R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
              {"role":"tool","tool_call_id":"1","content":"r"}])"),
      "");
}

TEST(Messages, ErrorsNameThePlace) {
  EXPECT_EQ(fault("[]"), "invalid messages");
  EXPECT_EQ(fault("[3]"), "invalid messages[0]");
  EXPECT_EQ(fault(R"([{"content":"a"}])"), "invalid messages[0].role");
  EXPECT_EQ(fault(R"([{"role":"user","content":"a"},{"role":"robot","content":"a"}])"),
            "invalid messages[1].role");
  EXPECT_EQ(fault(R"([{"role":7,"content":"a"}])"), "invalid messages[0].role");
  EXPECT_EQ(fault(R"([{"role":"user"}])"), "invalid messages[0].content");
  EXPECT_EQ(fault(R"([{"role":"user","content":null}])"), "invalid messages[0].content");
  EXPECT_EQ(fault(R"([{"role":"assistant","content":null}])"), "invalid messages[0].content");
  EXPECT_EQ(fault(R"([{"role":"user","content":7}])"), "invalid messages[0].content");
  EXPECT_EQ(fault(R"([{"role":"user","content":[]}])"), "invalid messages[0].content");
  EXPECT_EQ(fault(R"([{"role":"user","content":["a"]}])"), "invalid messages[0].content[0]");
  EXPECT_EQ(fault(R"([{"role":"user","content":[{"text":"a"}]}])"),
            "invalid messages[0].content[0].type");
  EXPECT_EQ(fault(R"([{"role":"user","content":[{"type":"text","text":1}]}])"),
            "invalid messages[0].content[0].text");
  EXPECT_EQ(fault(R"([{"role":"user","content":"a","name":1}])"), "invalid messages[0].name");
  EXPECT_EQ(fault(R"([{"role":"tool","content":"a"}])"), "invalid messages[0].tool_call_id");
  EXPECT_EQ(fault(R"([{"role":"assistant","tool_calls":[]}])"), "invalid messages[0].tool_calls");
  EXPECT_EQ(fault(R"([{"role":"assistant","tool_calls":[{"type":"function"}]}])"),
            "invalid messages[0].tool_calls[0].id");
  EXPECT_EQ(fault(R"([{"role":"assistant","tool_calls":[{"id":"1","type":"function"}]}])"),
            "invalid messages[0].tool_calls[0].function");
}

TEST(Messages, OtherThanTextIsUnsupportedNotIgnored) {
  EXPECT_EQ(fault(R"([{"role":"user","content":[{"type":"text","text":"a"},
                     {"type":"image_url","image_url":{"url":"x"}}]}])"),
            "unsupported messages[0].content[1].type");
  EXPECT_EQ(fault(R"([{"role":"assistant","content":"a","audio":{"id":"x"}}])"),
            "unsupported messages[0].audio");
  EXPECT_EQ(fault(R"([{"role":"assistant","content":"a","function_call":{"name":"f"}}])"),
            "unsupported messages[0].function_call");
}

}  // namespace
}  // namespace mlxs::api
