#include "engine/stop_matcher.h"

#include "base/utf8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

/// Where the answer ends by definition: before the stop string whose last byte comes first, the
/// longest of those that end there; all of `text` without one.
std::string naive_answer(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops)
      if (!stop.empty() && text.substr(0, end).ends_with(stop))
        longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

/// Characters of one to four bytes, few of them and with common lead bytes, so that stop strings
/// overlap with each other, with themselves and with almost everything.
std::vector<std::string> random_characters(std::mt19937& random, std::size_t count_max) {
  const std::vector<std::string> alphabet{"a", "a", "b", "ä", "â", "€", "₭", "🙂", "🙃"};
  const std::size_t letters = 2 + random() % (alphabet.size() - 1);
  std::vector<std::string> characters(random() % (count_max + 1));
  for (std::string& character : characters) character = alphabet[random() % letters];
  return characters;
}

std::string joined(std::span<const std::string> characters) {
  std::string text;
  for (const std::string& character : characters) text += character;
  return text;
}

TEST(StopMatcher, AgreesWithTheWholeTextHoweverItIsSplit) {
  std::mt19937 random{7};
  int stopped_count = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto characters = random_characters(random, 30);
    const std::string text = joined(characters);
    std::vector<std::string> stops(random() % 4);
    for (std::string& stop : stops) stop = joined(random_characters(random, 5));
    SCOPED_TRACE(::testing::PrintToString(std::pair(text, stops)));
    StopMatcher matcher{stops};
    std::string answer;
    std::size_t seen = 0;

    for (std::size_t at = 0; at < characters.size() && !matcher.stopped();) {
      const std::size_t count = std::min<std::size_t>(1 + random() % 4, characters.size() - at);
      const std::string piece = joined(std::span{characters}.subspan(at, count));
      at += count;
      seen += piece.size();
      const std::string out = matcher.push(piece);
      ASSERT_TRUE(utf8_valid(out));
      answer += out;
      if (matcher.stopped()) break;
      // Only a possible beginning of a stop string is withheld.
      const std::string held = text.substr(answer.size(), seen - answer.size());
      ASSERT_TRUE(held.empty() || std::ranges::any_of(stops, [&](const std::string& stop) {
                    return stop.size() > held.size() && stop.starts_with(held);
                  }));
    }
    if (!matcher.stopped()) answer += matcher.finish();

    const std::string expected = naive_answer(text, stops);
    ASSERT_EQ(answer, expected);
    ASSERT_EQ(matcher.stopped(), expected.size() < text.size());
    stopped_count += matcher.stopped();
  }
  EXPECT_GT(stopped_count, 5'000);
  EXPECT_LT(stopped_count, 15'000);
}

TEST(StopMatcher, LetsEverythingThroughWithoutStopStrings) {
  StopMatcher matcher{{}};

  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.finish(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, ReleasesWhatTurnsOutToBeNoStopString) {
  StopMatcher matcher{{"\n\nUser:"}};

  EXPECT_EQ(matcher.push("Hello\n"), "Hello");
  EXPECT_EQ(matcher.push("\nUs"), "");
  EXPECT_EQ(matcher.push("e it."), "\n\nUse it.");
}

TEST(StopMatcher, DropsTheStopStringAndWhatFollowsIt) {
  StopMatcher matcher{{"END", "STOP"}};

  EXPECT_EQ(matcher.push("one EN"), "one ");
  EXPECT_EQ(matcher.push("D two STOP"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, FindsAStopStringThatBeginsInsideAFailedOne) {
  StopMatcher matcher{{"aab"}};

  EXPECT_EQ(matcher.push("aa"), "");
  EXPECT_EQ(matcher.push("a"), "a");
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, TakesTheOneThatIsCompleteFirstAndOfThoseTheLongest) {
  StopMatcher first{{"abcd", "bc"}};
  EXPECT_EQ(first.push("xabcd"), "xa");
  EXPECT_TRUE(first.stopped());

  StopMatcher longest{{"c", "abc"}};
  EXPECT_EQ(longest.push("xabc"), "x");
  EXPECT_TRUE(longest.stopped());
}

TEST(StopMatcher, FlushesWhatItWithheldAtTheEnd) {
  StopMatcher matcher{{"END"}};
  EXPECT_EQ(matcher.push("the EN"), "the ");

  EXPECT_EQ(matcher.finish(), "EN");
}

TEST(StopMatcher, AnEmptyStopStringMatchesNothing) {
  StopMatcher matcher{{""}};

  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_FALSE(matcher.stopped());
}

}  // namespace
}  // namespace mlxs::engine
