#include "base/utf8.h"
#include "engine/text/text_fixture.h"
#include "engine/text/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace mlxs::engine {
namespace {

std::unique_ptr<Tokenizer> tiny() { return Tokenizer::from_gguf(tiny_vocabulary()).value(); }

TEST(StreamDecoder, WithholdsACharacterUntilItIsComplete) {
  const auto tokenizer = tiny();
  StreamDecoder decoder{*tokenizer};

  EXPECT_EQ(decoder.push(0xE2).value(), "");
  EXPECT_EQ(decoder.push(0x82).value(), "");
  EXPECT_EQ(decoder.push(0xAC).value(), "\u20AC");
  EXPECT_EQ(decoder.finish().value(), "");
}

TEST(StreamDecoder, BytesThatNeverCompleteComeOutAsReplacement) {
  const auto tokenizer = tiny();
  StreamDecoder decoder{*tokenizer};

  EXPECT_EQ(decoder.push(0xE2).value(), "");
  EXPECT_EQ(decoder.push('a').value(), "\uFFFDa");
  EXPECT_EQ(decoder.push(0xF0).value(), "");
  EXPECT_EQ(decoder.finish().value(), "\uFFFD");
  EXPECT_EQ(decoder.push('b').value(), "b");
}

TEST(StreamDecoder, SkipsSpecialTokensInsideACharacter) {
  const auto tokenizer = tiny();
  StreamDecoder decoder{*tokenizer};

  EXPECT_EQ(decoder.push(0xC3).value(), "");
  EXPECT_EQ(decoder.push(261).value(), "");
  EXPECT_EQ(decoder.push(0xA9).value(), "\u00E9");
}

TEST(StreamDecoder, IdsOutsideTheVocabularyAddNothing) {
  const auto tokenizer = tiny();
  StreamDecoder decoder{*tokenizer};
  ASSERT_TRUE(decoder.push(0xC3));

  EXPECT_EQ(decoder.push(264).value(), "");
  EXPECT_EQ(decoder.push(-1).value(), "");
  EXPECT_EQ(decoder.push(0xA9).value(), "\u00E9");
}

RC_GTEST_PROP(StreamDecoder, PiecesAreValidAndMakeUpTheWhole, ()) {
  static const auto tokenizer = tiny();
  const auto ids =
      *rc::gen::container<std::vector<TokenId>>(rc::gen::inRange(0, tokenizer->vocab_size()));
  StreamDecoder decoder{*tokenizer};
  std::string joined;

  for (const TokenId id : ids) {
    const auto piece = decoder.push(id).value();
    RC_ASSERT(utf8_valid(piece));
    joined += piece;
  }
  joined += decoder.finish().value();

  RC_ASSERT(joined == tokenizer->decode(ids, true).value());
}

}  // namespace
}  // namespace mlxs::engine
