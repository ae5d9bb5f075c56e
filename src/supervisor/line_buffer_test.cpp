#include "supervisor/line_buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mlxs::supervisor {
namespace {

std::vector<std::string> lines_of(LineBuffer& buffer, const std::vector<std::string>& pieces) {
  std::vector<std::string> lines;
  for (const std::string& piece : pieces)
    buffer.feed(piece, [&](std::string_view line) { lines.emplace_back(line); });
  return lines;
}

TEST(LineBuffer, AnySplitGivesTheSameLines) {
  LineBuffer whole{100};
  LineBuffer split{100};

  EXPECT_THAT(lines_of(whole, {"one\n\ntwo\nrest"}), ::testing::ElementsAre("one", "", "two"));
  EXPECT_THAT(lines_of(split, {"o", "ne", "\n", "\ntw", "o\nre", "st"}),
              ::testing::ElementsAre("one", "", "two"));
  EXPECT_EQ(whole.take_rest(), "rest");
  EXPECT_EQ(split.take_rest(), "rest");
}

TEST(LineBuffer, LongLinesAreCut) {
  LineBuffer buffer{4};

  EXPECT_THAT(lines_of(buffer, {"abcdef", "gh\nij\n"}), ::testing::ElementsAre("abcd", "ij"));
}

}  // namespace
}  // namespace mlxs::supervisor
