// Several choices, logprobs, echoed prompts and gaps, as clients see them.
#include "base/hash.h"
#include "worker/worker_fixture.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::worker {
namespace {

namespace json = boost::json;
using testing::ElementsAre;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kCompletions = "/v1/completions";

json::object chat(std::string_view more) {
  json::object body{{"model", "fake"}, {"seed", 5}, {"max_tokens", 30}};
  body["messages"] = json::parse(R"([{"role":"user","content":"hi"}])");
  const json::value fields = json::parse(more);
  for (const auto& [name, value] : fields.get_object()) body[name] = value;
  return body;
}

json::object completion(std::string_view more) {
  json::object body = chat(more);
  body.erase("messages");
  if (!body.contains("prompt")) body["prompt"] = "once";
  return body;
}

std::string_view text_of(const json::value& choice) {
  if (const json::value* text = choice.as_object().if_contains("text")) return text->as_string();
  return choice.at("message").at("content").as_string();
}

std::string joined(const json::value& list) {
  std::string text;
  for (const json::value& entry : list.as_array())
    text += (entry.is_string() ? entry : entry.at("token")).as_string();
  return text;
}

class Choices : public testing::Test {
 protected:
  Choices() { worker_.wait_ready(); }

  json::value ask(const char* target, const json::object& body) {
    const auto response = post(worker_, target, json::serialize(body));
    EXPECT_EQ(response.status, 200) << response.body;
    return json_of(response);
  }
  /// The texts of a stream's choices; each has one finish reason.
  std::map<std::int64_t, std::string> streamed(const char* target, json::object body) {
    body["stream"] = true;
    EventStream stream{worker_.address(), "POST", target, json::serialize(body)};
    std::map<std::int64_t, std::string> texts;
    std::map<std::int64_t, int> finishes;
    for (const std::string& event : stream.rest()) {
      if (event == "[DONE]") continue;
      const json::value chunk = json::parse(event);
      for (const json::value& choice : chunk.at("choices").as_array()) {
        const auto index = choice.at("index").as_int64();
        const json::object& fields = choice.as_object();
        const json::value* piece = fields.contains("text")
                                       ? fields.if_contains("text")
                                       : fields.at("delta").as_object().if_contains("content");
        if (piece != nullptr) texts[index] += piece->as_string();
        if (!choice.at("finish_reason").is_null()) ++finishes[index];
      }
    }
    for (const auto& [index, text] : texts) EXPECT_EQ(finishes[index], 1);
    return texts;
  }

  RunningWorker worker_;
};

TEST_F(Choices, EachHasItsOwnTextAndAllAreCounted) {
  for (const char* target : {kChat, kCompletions}) {
    const bool is_chat = target == std::string_view{kChat};
    const json::object body = is_chat ? chat(R"({"n":4})") : completion(R"({"n":4})");

    const json::value answer = ask(target, body);

    const json::array& choices = answer.at("choices").as_array();
    ASSERT_EQ(choices.size(), 4U);
    std::set<std::string_view> texts;
    for (std::size_t k = 0; k < 4; ++k) {
      EXPECT_EQ(choices[k].at("index").as_int64(), static_cast<std::int64_t>(k));
      texts.insert(text_of(choices[k]));
    }
    EXPECT_EQ(texts.size(), 4U);
    const json::value& usage = answer.at("usage");
    EXPECT_EQ(usage.at("prompt_tokens").as_int64(), is_chat ? 20 : 5);
    std::int64_t tokens = 0;
    for (const json::value& choice : choices)
      tokens += static_cast<std::int64_t>(text_of(choice).size()) +
                (choice.at("finish_reason").as_string() == "stop" ? 1 : 0);
    EXPECT_EQ(usage.at("completion_tokens").as_int64(), tokens);

    const auto stream = streamed(target, body);
    ASSERT_EQ(stream.size(), 4U);
    for (const auto& [index, text] : stream)
      EXPECT_EQ(text, text_of(choices[static_cast<std::size_t>(index)]));
  }
}

TEST_F(Choices, TheFirstOfManyIsTheOneAlone) {
  const json::value alone = ask(kChat, chat("{}"));
  const json::value many = ask(kChat, chat(R"({"n":3})"));

  EXPECT_EQ(text_of(many.at("choices").at(0)), text_of(alone.at("choices").at(0)));
}

TEST_F(Choices, GreedyOnesAreAllTheSame) {
  const json::value many = ask(kCompletions, completion(R"({"n":3,"temperature":0})"));

  EXPECT_EQ(text_of(many.at("choices").at(1)), text_of(many.at("choices").at(0)));
  EXPECT_EQ(text_of(many.at("choices").at(2)), text_of(many.at("choices").at(0)));
}

TEST_F(Choices, OfSeveralPromptsComePromptByPrompt) {
  const json::value both =
      ask(kCompletions, completion(R"({"prompt":["one","two two"],"n":2,"echo":true})"));
  const json::value second = ask(kCompletions, completion(R"({"prompt":"two two","n":2})"));
  const json::value ids = ask(kCompletions, completion(R"({"prompt":[[97],[98]]})"));

  ASSERT_EQ(both.at("choices").as_array().size(), 4U);
  EXPECT_THAT(std::string{text_of(both.at("choices").at(1))}, testing::StartsWith("one"));
  for (std::size_t k = 0; k < 2; ++k)
    EXPECT_EQ(std::string{text_of(both.at("choices").at(2 + k))},
              "two two" + std::string{text_of(second.at("choices").at(k))});
  EXPECT_EQ(both.at("usage").at("prompt_tokens").as_int64(), 4 + 8);
  EXPECT_EQ(ids.at("choices").as_array().size(), 2U);
}

TEST_F(Choices, TheBestHaveTheHighestMeanLogprob) {
  const json::value all = ask(kCompletions, completion(R"({"n":6,"logprobs":0})"));
  const json::value best = ask(kCompletions, completion(R"({"n":2,"best_of":6})"));

  std::vector<std::pair<double, std::string>> ranked;
  for (const json::value& choice : all.at("choices").as_array()) {
    double sum = 0;
    const json::array& logprobs = choice.at("logprobs").at("token_logprobs").as_array();
    for (const json::value& logprob : logprobs) sum += logprob.as_double();
    ranked.emplace_back(-sum / static_cast<double>(logprobs.size()), text_of(choice));
  }
  std::ranges::sort(ranked);
  ASSERT_EQ(best.at("choices").as_array().size(), 2U);
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(text_of(best.at("choices").at(k)), ranked[k].second);
    EXPECT_EQ(best.at("choices").at(k).at("index").as_int64(), static_cast<std::int64_t>(k));
    EXPECT_TRUE(best.at("choices").at(k).at("logprobs").is_null());
  }
  // Everything generated is counted.
  EXPECT_EQ(best.at("usage").at("total_tokens"), all.at("usage").at("total_tokens"));
  const auto stream = streamed(kCompletions, completion(R"({"n":2,"best_of":6})"));
  ASSERT_EQ(stream.size(), 2U);
  EXPECT_EQ(stream.at(0), ranked[0].second);
  EXPECT_EQ(stream.at(1), ranked[1].second);
}

TEST_F(Choices, OneThatIsOverDoesNotEndTheOthers) {
  const auto texts = streamed(kCompletions, completion(R"({"n":8,"stop":["e"],"max_tokens":40})"));

  ASSERT_EQ(texts.size(), 8U);
  std::set<std::size_t> lengths;
  for (const auto& [index, text] : texts) lengths.insert(text.size());
  EXPECT_GT(lengths.size(), 2U);
}

/// The sequences a worker runs, as it says itself.
std::string running(const RunningWorker& worker) {
  const std::string metrics = get(worker, "/metrics").body;
  const auto line = metrics.find("\nvllm:num_requests_running{");
  const auto value = metrics.find("} ", line) + 2;
  return metrics.substr(value, metrics.find('\n', value) - value);
}

TEST_F(Choices, AllAreCancelledWhenTheClientLeaves) {
  // Its steps are slow enough, and its context is long enough, for no test to see the end.
  RunningWorker endless{{.context_tokens_max = 200'000,
                         .blocks_total = 300'000,
                         .endless = true,
                         .step = Milliseconds{2}}};
  endless.wait_ready();
  {
    EventStream stream{endless.address(),
                       "POST",
                       kCompletions,
                       json::serialize(completion(R"({"n":5,"max_tokens":190000,"stream":true})"))};
    ASSERT_TRUE(stream.next());
    EXPECT_TRUE(eventually([&] { return running(endless) == "5"; })) << running(endless);
  }
  EXPECT_TRUE(eventually([&] { return running(endless) == "0"; })) << running(endless);
}

TEST_F(Choices, ChatLogprobsSpellTheText) {
  const json::value answer = ask(kChat, chat(R"({"logprobs":true,"top_logprobs":3,"n":2})"));

  for (const json::value& choice : answer.at("choices").as_array()) {
    const json::array& content = choice.at("logprobs").at("content").as_array();
    EXPECT_EQ(joined(choice.at("logprobs").at("content")), text_of(choice));
    for (const json::value& token : content) {
      ASSERT_EQ(token.at("bytes").as_array().size(), 1U);
      EXPECT_EQ(token.at("bytes").at(0).as_int64(), token.at("token").as_string().front());
      EXPECT_LE(token.at("logprob").as_double(), 0);
      const json::array& top = token.at("top_logprobs").as_array();
      ASSERT_EQ(top.size(), 3U);
      EXPECT_GE(top[0].at("logprob").as_double(), top[1].at("logprob").as_double());
      EXPECT_GE(top[0].at("logprob").as_double(), token.at("logprob").as_double());
    }
  }
}

TEST_F(Choices, LogprobsDoNotDependOnTemperatureAndPenalties) {
  const json::value plain = ask(kChat, chat(R"({"logprobs":true,"temperature":0,"max_tokens":1})"));
  const json::value bent = ask(
      kChat,
      chat(
          R"({"logprobs":true,"temperature":0,"max_tokens":1,"logit_bias":{"110":9},"repetition_penalty":1.1})"));

  EXPECT_EQ(plain.at("choices").at(0).at("logprobs"), bent.at("choices").at(0).at("logprobs"));
}

TEST_F(Choices, StreamedLogprobsAreTheWholeOnes) {
  json::object body = chat(R"({"logprobs":true,"top_logprobs":2,"stop":["ab","e"]})");
  const json::value whole = ask(kChat, body);
  body["stream"] = true;
  EventStream stream{worker_.address(), "POST", kChat, json::serialize(body)};
  json::array content;
  for (const std::string& event : stream.rest()) {
    if (event == "[DONE]") continue;
    const json::value chunk = json::parse(event);
    const json::value& choice = chunk.at("choices").at(0);
    const json::value& logprobs = choice.at("logprobs");
    std::string text;
    if (const json::value* piece = choice.at("delta").as_object().if_contains("content"))
      text = piece->as_string();
    // The tokens of a chunk are those of its text.
    EXPECT_EQ(logprobs.is_null() ? "" : joined(logprobs.at("content")), text);
    if (logprobs.is_null()) continue;
    for (const json::value& token : logprobs.at("content").as_array()) content.push_back(token);
  }

  EXPECT_EQ(content, whole.at("choices").at(0).at("logprobs").at("content").as_array());
}

TEST_F(Choices, CompletionsHaveTheOlderShape) {
  const json::value answer = ask(kCompletions, completion(R"({"logprobs":2})"));

  const json::value& choice = answer.at("choices").at(0);
  const json::value& logprobs = choice.at("logprobs");
  const json::array& tokens = logprobs.at("tokens").as_array();
  EXPECT_EQ(joined(logprobs.at("tokens")), text_of(choice));
  for (std::size_t k = 0; k < tokens.size(); ++k) {
    EXPECT_EQ(logprobs.at("text_offset").at(k).to_number<std::size_t>(), k);
    const json::object& top = logprobs.at("top_logprobs").at(k).as_object();
    EXPECT_GE(top.size(), 2U);
    EXPECT_LE(top.size(), 3U);
    EXPECT_EQ(top.at(tokens[k].as_string()), logprobs.at("token_logprobs").at(k));
  }
}

TEST_F(Choices, AnEchoedPromptHasLogprobsToo) {
  const json::value answer = ask(
      kCompletions, completion(R"({"prompt":"hé","echo":true,"logprobs":1,"max_tokens":3,"n":2})"));

  for (const json::value& choice : answer.at("choices").as_array()) {
    const json::value& logprobs = choice.at("logprobs");
    EXPECT_EQ(joined(logprobs.at("tokens")), text_of(choice));
    // The token that begins every text, "h", two bytes of "é".
    EXPECT_EQ(logprobs.at("tokens").at(0).as_string(), "");
    EXPECT_EQ(logprobs.at("tokens").at(1).as_string(), "h");
    EXPECT_EQ(logprobs.at("tokens").at(2).as_string(), "");
    EXPECT_EQ(logprobs.at("tokens").at(3).as_string(), "é");
    EXPECT_TRUE(logprobs.at("token_logprobs").at(0).is_null());
    EXPECT_TRUE(logprobs.at("top_logprobs").at(0).is_null());
    EXPECT_LT(logprobs.at("token_logprobs").at(1).as_double(), 0);
    EXPECT_EQ(logprobs.at("text_offset").at(4).to_number<int>(), 2);  // characters, not bytes
  }
  const json::value without =
      ask(kCompletions, completion(R"({"prompt":"hé","logprobs":1,"max_tokens":3})"));
  EXPECT_EQ(answer.at("choices").at(0).at("logprobs").at("token_logprobs").at(4),
            without.at("choices").at(0).at("logprobs").at("token_logprobs").at(0));
}

// What lm-eval's harness asks for.
TEST_F(Choices, APromptIsScoredWithoutAnythingGenerated) {
  const auto scored = [&](int max_tokens) {
    return ask(kCompletions,
               completion(fmt::format(
                   R"({{"prompt":["hé","x"],"echo":true,"logprobs":1,"max_tokens":{},"n":2}})",
                   max_tokens)));
  };
  const json::value answer = scored(0);
  const json::value with_one = scored(1);

  const json::array& choices = answer.at("choices").as_array();
  ASSERT_EQ(choices.size(), 4U);
  for (std::size_t k = 0; k < choices.size(); ++k) {
    EXPECT_EQ(text_of(choices[k]), k < 2 ? "hé" : "x");
    EXPECT_EQ(choices[k].at("finish_reason").as_string(), "length");
    const json::value& logprobs = choices[k].at("logprobs");
    const json::value& more = with_one.at("choices").at(k).at("logprobs");
    const json::array& found = logprobs.at("token_logprobs").as_array();
    ASSERT_EQ(found.size(), k < 2 ? 4U : 2U);
    EXPECT_EQ(more.at("token_logprobs").as_array().size(), found.size() + 1);
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(found[i], more.at("token_logprobs").at(i));
  }
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 0);
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), with_one.at("usage").at("prompt_tokens"));
}

TEST_F(Choices, TokensThatAreNoCharacterAreShownAsBytes) {
  const json::value answer =
      ask(kChat,
          chat(R"({"logprobs":true,"top_logprobs":20,"max_tokens":3,"logit_bias":{"195":100}})"));

  const json::value& content = answer.at("choices").at(0).at("logprobs").at("content");
  EXPECT_EQ(content.at(0).at("token").as_string(), "");
  EXPECT_THAT(json::serialize(content.at(0).at("bytes")), "[195]");
  EXPECT_EQ(joined(content), text_of(answer.at("choices").at(0)));
}

// R-ENG-2: resumed at any index equals uninterrupted.
TEST_F(Choices, AnAnswerIsResumedAfterAnyOfItsTokens) {
  const json::object body = completion(
      R"({"prompt":"hé","logprobs":1,"echo":true,"stop":["zzzz"],"frequency_penalty":1})");
  const json::value whole = ask(kCompletions, body).at("choices").at(0);
  const std::string text{text_of(whole).substr(std::string_view{"hé"}.size())};
  const json::array& all_offsets = whole.at("logprobs").at("text_offset").as_array();
  ASSERT_GT(text.size(), 5U);

  for (std::size_t at = 1; at < text.size(); ++at) {  // a byte is a token
    json::object rest = body;
    json::array ids;
    for (const char byte : text.substr(0, at)) ids.emplace_back(byte);
    rest["mlxs"] = {
        {"resume", {{"token_ids", ids}, {"text_hash", to_hex(sha256(text.substr(0, at)))}}}};
    const json::value answer = ask(kCompletions, rest).at("choices").at(0);

    EXPECT_EQ(text_of(answer), text.substr(at));
    EXPECT_EQ(answer.at("finish_reason"), whole.at("finish_reason"));
    const json::array& offsets = answer.at("logprobs").at("text_offset").as_array();
    EXPECT_EQ(offsets.front(), all_offsets[all_offsets.size() - offsets.size()]);
  }
}

TEST_F(Choices, NothingIsResumedThatDoesNotFit) {
  const auto refused = [&](std::string_view more) {
    return error_of(post(worker_, kCompletions, json::serialize(completion(more))));
  };

  EXPECT_EQ(refused(R"({"mlxs":{"resume":{"token_ids":[97],"text_hash":"00"}}})"),
            "invalid_value mlxs.resume.text_hash");
  EXPECT_EQ(refused(R"({"n":2,"mlxs":{"resume":{"token_ids":[97]}}})"),
            "invalid_value mlxs.resume");
  EXPECT_EQ(refused(R"({"stop":"a","mlxs":{"resume":{"token_ids":[97]}}})"),
            "invalid_value mlxs.resume");
  EXPECT_EQ(refused(R"({"mlxs":{"resume":{"token_ids":[256]}}})"), "invalid_value mlxs.resume");
  EXPECT_EQ(refused(R"({"mlxs":{"resume":{"token_ids":[257]}}})"), "invalid_value mlxs.resume[0]");
  EXPECT_EQ(refused(R"({"max_tokens":1,"mlxs":{"resume":{"token_ids":[97]}}})"),
            "invalid_value mlxs.resume");
}

TEST_F(Choices, ShareOneComputationOfTheirPromptAndFindItCachedLater) {
  const json::object body = completion(R"({"prompt":"a prompt of some blocks","n":3})");

  const json::value first = ask(kCompletions, body).at("usage");
  const json::value second = ask(kCompletions, body).at("usage");

  EXPECT_EQ(first.at("prompt_tokens_details").at("cached_tokens").as_int64(), 0);
  EXPECT_EQ(second.at("prompt_tokens_details").at("cached_tokens").as_int64(), 20);
  EXPECT_EQ(second.at("prompt_tokens"), first.at("prompt_tokens"));  // counted once
}

TEST_F(Choices, AGapIsFilledWhereTheModelKnowsHow) {
  const json::value filled =
      ask(kCompletions, completion(R"({"prompt":"ab","suffix":"cd","max_tokens":4})"));
  const json::value spelled =
      ask(kCompletions, completion(R"({"prompt":[1,2,97,98,3,99,100,4],"max_tokens":4})"));
  RunningWorker plain{{.has_template = false}};
  plain.wait_ready();
  const auto refused = post(plain, kCompletions, json::serialize(completion(R"({"suffix":"cd"})")));

  EXPECT_EQ(filled.at("choices"), spelled.at("choices"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(error_of(refused), "unsupported_parameter suffix");
}

}  // namespace
}  // namespace mlxs::worker
