#include "base/utf8.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>

namespace mlxs {
namespace {

TEST(Utf8, CompletePrefixHoldsBackAnUnfinishedCharacterOnly) {
  const std::string grin = "\xF0\x9F\x98\x80";
  for (std::size_t cut = 1; cut < 4; ++cut)
    EXPECT_EQ(utf8_complete_prefix("ab" + grin.substr(0, cut)), 2u);
  EXPECT_EQ(utf8_complete_prefix("ab" + grin), 6u);
  EXPECT_EQ(utf8_complete_prefix(""), 0u);
  EXPECT_EQ(utf8_complete_prefix("\x80\x80\x80\x80"), 4u);
}

TEST(Utf8, RejectsWhatRfc3629Forbids) {
  EXPECT_TRUE(utf8_valid("déjà vu 漢字 😀"));
  EXPECT_FALSE(utf8_valid("\xC0\x80"));          // overlong
  EXPECT_FALSE(utf8_valid("\xED\xA0\x80"));      // surrogate
  EXPECT_FALSE(utf8_valid("\xF4\x90\x80\x80"));  // beyond U+10FFFF
  EXPECT_FALSE(utf8_valid("\xE2\x82"));          // cut
  EXPECT_FALSE(utf8_valid("\xFF"));
}

TEST(Utf8, AnyCutOfValidTextHasAValidCompletePrefix) {
  EXPECT_TRUE(rc::check([](const std::basic_string<char32_t>& points) {
    std::string text;
    for (char32_t point : points) {
      point %= 0x110000;
      if (point >= 0xD800 && point < 0xE000) continue;
      if (point < 0x80) {
        text += static_cast<char>(point);
      } else if (point < 0x800) {
        text += {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 63))};
      } else if (point < 0x10000) {
        text += {static_cast<char>(0xE0 | point >> 12),
                 static_cast<char>(0x80 | (point >> 6 & 63)),
                 static_cast<char>(0x80 | (point & 63))};
      } else {
        text += {static_cast<char>(0xF0 | point >> 18),
                 static_cast<char>(0x80 | (point >> 12 & 63)),
                 static_cast<char>(0x80 | (point >> 6 & 63)),
                 static_cast<char>(0x80 | (point & 63))};
      }
    }
    RC_ASSERT(utf8_valid(text));
    const auto cut = *rc::gen::inRange<std::size_t>(0, text.size() + 1);
    const std::string prefix = text.substr(0, cut);
    RC_ASSERT(utf8_valid(prefix.substr(0, utf8_complete_prefix(prefix))));
    RC_ASSERT(cut - utf8_complete_prefix(prefix) < 4);
  }));
}

}  // namespace
}  // namespace mlxs
