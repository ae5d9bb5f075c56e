#include "engine/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::engine {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kChatMl =
    "{% for message in messages %}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' "
    "-}}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' -}}\n"
    "{% endif %}\n";

std::unique_ptr<ChatTemplate> compile(std::string_view source) {
  return ChatTemplate::compile(std::string{source}, "<s>", "</s>").value();
}

TEST(ChatTemplate, RendersMessagesAndPrompt) {
  const auto chat_template = compile(kChatMl);

  const auto text = chat_template->render({.messages_json = R"([{"role":"user","content":"Hé"}])"});

  EXPECT_EQ(text.value(), "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, SaysTheTemplatesOwnWords) {
  const auto chat_template = compile(
      "{% if messages[0].role != 'user' %}{{ raise_exception('Start with a user!') }}{% endif %}");

  const auto text = chat_template->render({.messages_json = R"([{"role":"system"}])"});

  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(text.error().param, "messages");
  EXPECT_EQ(text.error().message, "Start with a user!");
}

TEST(ChatTemplate, NamesWhatDoesNotCompile) {
  const auto broken = ChatTemplate::compile("a\n{% if %}", "", "");

  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(broken.error().message, HasSubstr("line 2"));
}

TEST(ChatTemplate, RejectsWhatIsNotJson) {
  const auto chat_template = compile(kChatMl);

  for (const std::string_view messages : {"", "[", "{}", "[1]", "[{\"a\":1}] x", "[\"\xFF\"]"}) {
    const auto text = chat_template->render({.messages_json = messages});
    ASSERT_FALSE(text) << messages;
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidRequest) << messages;
  }
}

TEST(ChatTemplate, ArgumentsMayNotReplaceTheRequest) {
  const auto chat_template = compile("{{ enable_thinking }}");

  const auto set = chat_template->render(
      {.messages_json = "[]", .arguments_json = R"({"enable_thinking":false})"});
  const auto replaced =
      chat_template->render({.messages_json = "[]", .arguments_json = R"({"messages":[]})"});

  EXPECT_EQ(set.value(), "False");
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, ErrorCode::kInvalidRequest);
}

TEST(ChatTemplate, EndlessWorkEndsWithAnError) {
  const auto chat_template = compile(
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
      "{% endfor %}{% endfor %}{% endfor %}");

  const auto text = chat_template->render({.messages_json = "[]"});

  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kInvalidRequest);
}

TEST(ChatTemplate, DigestIsOfTheSource) {
  EXPECT_EQ(compile("")->digest(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace mlxs::engine
