#include "engine/logprob_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

LogprobQueue queue_of(const std::vector<std::string>& texts) {
  LogprobQueue queue;
  for (const std::string& text : texts) queue.push({.text = text});
  return queue;
}

std::vector<std::string> texts(const std::vector<TokenLogprob>& tokens) {
  std::vector<std::string> out;
  for (const TokenLogprob& token : tokens) out.push_back(token.text);
  return out;
}

TEST(LogprobQueue, GivesATokenWhenAllOfItsTextIsOut) {
  LogprobQueue queue = queue_of({"ab", "cd", "ef"});

  EXPECT_THAT(texts(queue.take(1)), IsEmpty());
  EXPECT_THAT(texts(queue.take(3)), ElementsAre("ab", "cd"));
  EXPECT_THAT(texts(queue.take(2)), ElementsAre("ef"));
}

TEST(LogprobQueue, ATokenWithoutTextComesWithTheNextThatHasSome) {
  LogprobQueue queue = queue_of({"a", "", ""});
  EXPECT_THAT(texts(queue.take(1)), ElementsAre("a"));

  queue.push({.text = "€"});

  EXPECT_THAT(texts(queue.take(3)), ElementsAre("", "", "€"));
}

TEST(LogprobQueue, AllThatIsLeftComesAtTheEnd) {
  LogprobQueue queue = queue_of({"a", ""});
  (void)queue.take(1);
  queue.extend_last("\xEF\xBF\xBD");

  EXPECT_THAT(texts(queue.take_all()), ElementsAre("\xEF\xBF\xBD"));
}

TEST(LogprobQueue, AStopStringCutsTheTokenItBeginsInAndDropsTheRest) {
  LogprobQueue queue = queue_of({"ab", "cd", "", "ef"});

  const auto tokens = queue.cut_after(3);

  EXPECT_THAT(texts(tokens), ElementsAre("ab", "c"));
  EXPECT_FALSE(tokens[0].cut);
  EXPECT_TRUE(tokens[1].cut);
}

TEST(LogprobQueue, AStopStringThatBeginsWithATokenLeavesNothingOfIt) {
  LogprobQueue queue = queue_of({"ab", "", "cd"});

  const auto tokens = queue.cut_after(2);

  EXPECT_THAT(texts(tokens), ElementsAre("ab"));
  EXPECT_FALSE(tokens[0].cut);
}

TEST(LogprobQueue, FillsTokensThatAreStillHere) {
  LogprobQueue queue = queue_of({"a", "b", "c"});
  (void)queue.take(1);

  queue.fill(3, -3, {});  // is out already
  queue.fill(2, -2, {{7, -0.5f}});
  const auto tokens = queue.take_all();

  EXPECT_EQ(tokens.at(0).logprob, -2);
  EXPECT_EQ(tokens.at(0).top.at(0).token, 7);
  EXPECT_EQ(tokens.at(1).logprob, 0);
}

}  // namespace
}  // namespace mlxs::engine
