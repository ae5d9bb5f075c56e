#include "engine/text/chat_template.h"

#include "engine/text/golden_file.h"

#include <boost/json/value.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

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

/// A string, or empty for null.
std::string_view text_of(const boost::json::value& value) {
  return value.is_null() ? std::string_view{} : std::string_view{value.as_string()};
}

/// The golden file's account of a rendering: {"text": ...}, or {"error": words or null}. Empty when
/// `result` agrees, else both. Words are compared where the template itself chose them.
std::string difference(const boost::json::value& expected, const Result<std::string>& result) {
  const auto* text = expected.as_object().if_contains("text");
  const std::string got = result ? *result : "(error) " + result.error().message;
  if (text) {
    const std::string wanted{text->as_string()};
    return result && got == wanted ? "" : "wanted: " + wanted + "\n   got: " + got;
  }
  const std::string_view words = text_of(expected.at("error"));
  if (!result && (words.empty() || result.error().message == words)) return "";
  return "wanted an error: " + std::string{words} + "\n   got: " + got;
}

// Tools with their key order, system, several turns, calls and results, refusals.
TEST(ChatTemplateGolden, TemplatesRenderAsInTransformers) {
  const auto file = golden_file("templates.json");
  const auto& conversations = file.at("conversations").as_array();

  for (const auto& [name, source] : file.at("templates").as_object()) {
    const auto chat_template =
        ChatTemplate::compile(std::string{source.as_string()}, "<s>", "</s>").value();
    const auto& results = file.at("results").at(name).as_array();
    ASSERT_EQ(results.size(), conversations.size());
    for (std::size_t index = 0; index < results.size(); ++index) {
      const auto& conversation = conversations[index];
      for (const bool prompt : {false, true}) {
        const auto text = chat_template->render(
            {.messages_json = text_of(conversation.at("messages")),
             .tools_json = text_of(conversation.at("tools")),
             .arguments_json = text_of(conversation.at("arguments")),
             .add_generation_prompt = prompt,
             .now = std::chrono::sys_seconds{std::chrono::seconds{file.at("now").as_int64()}}});
        EXPECT_EQ(difference(results[index].at(prompt ? 1 : 0), text), "")
            << name << ", " << conversation.at("label") << (prompt ? ", with prompt" : "");
      }
    }
  }
}

TEST(ChatTemplateGolden, ExpressionsRenderAsInTransformers) {
  const auto file = golden_file("expressions.json");

  for (const auto& expression : file.at("cases").as_array()) {
    const std::string source{expression.at("source").as_string()};
    const auto chat_template = ChatTemplate::compile(source, "<s>", "</s>");
    const auto text = chat_template
                          ? (*chat_template)
                                ->render({.messages_json = text_of(file.at("messages")),
                                          .tools_json = text_of(file.at("tools")),
                                          .arguments_json = text_of(file.at("arguments")),
                                          .now = std::chrono::sys_seconds{std::chrono::seconds{
                                              file.at("now").as_int64()}}})
                          : Result<std::string>{chat_template.error()};
    EXPECT_EQ(difference(expression, text), "") << source;
  }
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
  EXPECT_THAT(text.error().message, HasSubstr("too many steps"));
}

TEST(ChatTemplate, EndlessRecursionEndsWithAnError) {
  const auto chat_template = compile("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");

  EXPECT_FALSE(chat_template->render({.messages_json = "[]"}));
}

TEST(ChatTemplate, ManyThreadsShareOne) {
  const auto chat_template = compile(kChatMl);
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;

  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 200; ++turn)
        right += chat_template
                     ->render({.messages_json = R"([{"role":"user","content":"a"}])",
                               .add_generation_prompt = false})
                     .value() == "<|im_start|>user\na<|im_end|>\n";
    });
  for (auto& thread : threads) thread.join();

  EXPECT_EQ(right, 800);
}

TEST(ChatTemplate, DigestIsOfTheSource) {
  EXPECT_EQ(compile("")->digest(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace mlxs::engine
