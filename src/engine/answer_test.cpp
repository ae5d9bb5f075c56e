#include "engine/answer.h"

#include "engine/testing/fake_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;

constexpr TokenId kEnds[] = {kFakeEndToken, 3};

Answer answer_of(int completion_tokens_max, std::vector<std::string> stop = {}) {
  return Answer{SequenceId{9},
                5,
                {.end_tokens = {std::begin(kEnds), std::end(kEnds)},
                 .stop = std::move(stop),
                 .completion_tokens_max = completion_tokens_max},
                make_byte_detokenizer()};
}

/// Events of the tokens of `bytes`.
std::vector<GenerationEvent> feed(Answer& answer, std::string_view bytes) {
  std::vector<GenerationEvent> events;
  for (const TokenId token : byte_tokens(bytes)) events.push_back(answer.advance(token));
  return events;
}

TEST(Answer, HasOneEventAToken) {
  Answer answer = answer_of(10);

  const auto events = feed(answer, "ab");

  EXPECT_EQ(events.at(0).sequence, SequenceId{9});
  EXPECT_EQ(events.at(0).text, "a");
  EXPECT_THAT(events.at(1).token_ids, ElementsAre('b'));
  EXPECT_EQ(events.at(1).finish, std::nullopt);
}

TEST(Answer, EndsWithAnyEndTokenWhoseTextNeverAppears) {
  for (const TokenId end : kEnds) {
    Answer answer = answer_of(10);
    (void)feed(answer, "ab");

    const GenerationEvent last = answer.advance(end);

    EXPECT_EQ(last.text, "");
    EXPECT_THAT(last.token_ids, ElementsAre(end));
    EXPECT_EQ(last.finish, FinishReason::kStop);
    EXPECT_EQ(last.prompt_tokens, 5);
    EXPECT_EQ(last.completion_tokens, 3);
  }
}

TEST(Answer, ReleasesWhatIsWithheldAtAnEndToken) {
  Answer answer = answer_of(10, {"END"});
  EXPECT_EQ(feed(answer, "xEN").at(2).text, "");

  EXPECT_EQ(answer.advance(kFakeEndToken).text, "EN");
}

TEST(Answer, ReleasesWhatIsWithheldAtItsLength) {
  Answer answer = answer_of(3, {"END"});

  const auto events = feed(answer, "xEN");

  EXPECT_EQ(events.at(2).text, "EN");
  EXPECT_EQ(events.at(2).finish, FinishReason::kLength);
  EXPECT_EQ(events.at(2).completion_tokens, 3);
}

TEST(Answer, AStopStringWithItsLastTokenIsAStopAndNotALength) {
  Answer answer = answer_of(3, {"END"});

  const auto events = feed(answer, "END");

  EXPECT_EQ(events.at(2).finish, FinishReason::kStop);
  EXPECT_EQ(events.at(2).text, "");
}

TEST(Answer, TextOfTheFirstMinTokensIsNoPartOfAStopString) {
  const auto answer_with = [](int min_tokens) {
    return Answer{
        SequenceId{9},
        5,
        {.end_tokens = {}, .stop = {"ab"}, .completion_tokens_max = 10, .min_tokens = min_tokens},
        make_byte_detokenizer()};
  };
  Answer ignores = answer_with(1);
  Answer finds = answer_with(3);

  EXPECT_EQ(feed(ignores, "abb").at(2).finish, std::nullopt);
  EXPECT_EQ(feed(ignores, "ab").at(1).finish, FinishReason::kStop);
  EXPECT_EQ(feed(finds, "abxab").at(4).finish, FinishReason::kStop);
}

TEST(Answer, ACharacterCutByTheLengthIsReplaced) {
  Answer answer = answer_of(2);

  EXPECT_EQ(feed(answer, "\xE2\x82").at(1).text, "\xEF\xBF\xBD");
}

/// Texts of the logprobs of each event, joined with bars; tokens that were cut end with "!".
std::vector<std::string> spelled(Answer& answer, std::string_view bytes) {
  std::vector<std::string> out;
  std::vector<TokenId> tokens = byte_tokens(bytes);
  for (TokenId& token : tokens) {
    if (token == '$') token = kFakeEndToken;
    const auto event = answer.advance(token, TokenLogprob{.token = token});
    std::string& text = out.emplace_back();
    for (std::size_t k = 0; k < event.logprobs.size(); ++k)
      text += (k == 0 ? "" : "|") + event.logprobs[k].text + (event.logprobs[k].cut ? "!" : "");
    if (event.finish) break;
  }
  return out;
}

TEST(Answer, TokensComeWithTheTextTheySpell) {
  Answer answer = answer_of(20, {"END"});

  EXPECT_THAT(spelled(answer, "aENxENDb"), ElementsAre("a", "", "", "E|N|x", "", "", ""));
}

TEST(Answer, TokensOfWithheldTextComeAtTheEnd) {
  Answer ended = answer_of(20, {"END"});
  EXPECT_THAT(spelled(ended, "aEN$"), ElementsAre("a", "", "", "E|N"));

  Answer full = answer_of(3, {"END"});
  EXPECT_THAT(spelled(full, "aEN"), ElementsAre("a", "", "E|N"));
}

TEST(Answer, TokensOfOneCharacterComeTogether) {
  Answer answer = answer_of(6);

  EXPECT_THAT(spelled(answer, "x€\xE2\x82"), ElementsAre("x", "", "", "||€", "", "|\xEF\xBF\xBD"));
}

TEST(Answer, ATokenWithoutTextFailsIt) {
  Answer answer = answer_of(10);
  (void)feed(answer, "ab");

  const GenerationEvent failed = answer.advance(1000);

  EXPECT_EQ(failed.finish, FinishReason::kError);
  EXPECT_TRUE(failed.error.has_value());
  EXPECT_THAT(failed.token_ids, ElementsAre(1000));
  EXPECT_EQ(failed.completion_tokens, 3);
}

}  // namespace
}  // namespace mlxs::engine
