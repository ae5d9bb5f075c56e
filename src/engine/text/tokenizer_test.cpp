#include "engine/text/tokenizer.h"

#include "engine/text/text_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<Tokenizer> tiny() { return Tokenizer::from_gguf(tiny_vocabulary()).value(); }

Error error_of(const GgufVocabulary& vocabulary) {
  auto made = Tokenizer::from_gguf(vocabulary);
  EXPECT_FALSE(made);
  return made ? Error{} : made.error();
}

TEST(Tokenizer, MergesInOrderOfRank) {
  const auto tokenizer = tiny();

  EXPECT_THAT(tokenizer->encode("hello hello", false).value(), ElementsAre(259, 260));
  EXPECT_THAT(tokenizer->encode("help", false).value(), ElementsAre(256, 'l', 'p'));
}

TEST(Tokenizer, SpecialTokensSpelledOutBecomeTheirIds) {
  const auto tokenizer = tiny();

  EXPECT_THAT(tokenizer->encode("<s>he<tool>", false).value(), ElementsAre(261, 256, 262));
}

TEST(Tokenizer, DecodeSkipsControlTokensButNotUserDefinedOnes) {
  const auto tokenizer = tiny();
  const std::vector<TokenId> ids{261, 259, 262};

  EXPECT_EQ(tokenizer->decode(ids, true).value(), "hello<tool>");
  EXPECT_EQ(tokenizer->decode(ids, false).value(), "<s>hello<tool>");
}

TEST(Tokenizer, UnusedPlacesAreKnownIdsWithoutText) {
  const auto tokenizer = tiny();

  EXPECT_EQ(tokenizer->vocab_size(), 264);
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{259, 263}, false).value(), "hello");
  EXPECT_EQ(tokenizer->token_id("[PAD263]"), -1);
}

TEST(Tokenizer, KnowsTheBytesOfEachToken) {
  const auto tokenizer = tiny();

  EXPECT_EQ(tokenizer->token_bytes(260), " hello");
  EXPECT_EQ(tokenizer->token_bytes(0xE2), "\xE2");
  EXPECT_EQ(tokenizer->token_bytes(261), "<s>");
  for (const TokenId id : {263, 264, -1}) EXPECT_EQ(tokenizer->token_bytes(id), "");
}

TEST(Tokenizer, UnknownIdsAreTheCallersFault) {
  const auto tokenizer = tiny();

  for (const TokenId id : {264, -1, 1 << 30}) {
    const auto text = tokenizer->decode(std::vector<TokenId>{'a', id}, true);
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidRequest);
    EXPECT_THAT(text.error().message, HasSubstr(std::to_string(id)));
  }
}

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  const auto tokenizer = tiny();

  EXPECT_EQ(tokenizer->encode("a\xFF z\xE2\x82", false).value(),
            tokenizer->encode("a\xEF\xBF\xBD z\xEF\xBF\xBD", false).value());
  EXPECT_THAT(tokenizer->encode("", true).value(), IsEmpty());
}

TEST(Tokenizer, BosIsAddedWhenTheFileSaysSo) {
  auto vocabulary = tiny_vocabulary();
  vocabulary.add_bos = true;
  const auto tokenizer = Tokenizer::from_gguf(vocabulary).value();

  EXPECT_THAT(tokenizer->encode("he", true).value(), ElementsAre(261, 256));
  EXPECT_THAT(tokenizer->encode("he", false).value(), ElementsAre(256));
  EXPECT_THAT(tokenizer->encode("", true).value(), ElementsAre(261));
}

TEST(Tokenizer, BosFollowsThePreTokenizerWhereTheFileIsSilent) {
  auto vocabulary = tiny_vocabulary();
  vocabulary.pre = "llama-bpe";

  const auto silent = Tokenizer::from_gguf(vocabulary).value();
  vocabulary.add_bos = false;
  const auto off = Tokenizer::from_gguf(vocabulary).value();

  EXPECT_THAT(silent->encode("he", true).value(), ElementsAre(261, 256));
  EXPECT_THAT(off->encode("he", true).value(), ElementsAre(256));
}

TEST(Tokenizer, UnknownModelAndPreTokenizerAreNamed) {
  auto model = tiny_vocabulary();
  model.model = "llama";
  auto pre = tiny_vocabulary();
  pre.pre = "no-such-pre";

  EXPECT_EQ(error_of(model).code, ErrorCode::kCorruptFile);
  EXPECT_THAT(error_of(model).message, HasSubstr("\"llama\""));
  EXPECT_EQ(error_of(pre).code, ErrorCode::kCorruptFile);
  EXPECT_THAT(error_of(pre).message, HasSubstr("\"no-such-pre\""));
}

TEST(Tokenizer, InconsistentListsAreNamed) {
  auto types = tiny_vocabulary();
  types.token_types.pop_back();
  auto twice = tiny_vocabulary();
  twice.tokens[260] = "he";
  auto merge = tiny_vocabulary();
  merge.merges.push_back("x yz");
  auto no_pair = tiny_vocabulary();
  no_pair.merges.push_back("hello");
  auto bos = tiny_vocabulary();
  bos.add_bos = true;
  bos.bos = 9999;
  auto empty = tiny_vocabulary();
  empty.tokens.clear();
  auto not_text = tiny_vocabulary();
  not_text.tokens[7] = "\xFF";

  EXPECT_THAT(error_of(types).message, HasSubstr("263 entries for 264 tokens"));
  EXPECT_THAT(error_of(twice).message, HasSubstr("both token 256 and token 260"));
  EXPECT_THAT(error_of(merge).message, HasSubstr("\"yz\""));
  EXPECT_THAT(error_of(no_pair).message, HasSubstr("\"hello\""));
  EXPECT_THAT(error_of(bos).message, HasSubstr("bos_token_id"));
  EXPECT_THAT(error_of(empty).message, HasSubstr("tokens is empty"));
  EXPECT_THAT(error_of(not_text).message, HasSubstr("tokens[7]"));
}

TEST(Tokenizer, DigestTellsVocabulariesApart) {
  auto other = tiny_vocabulary();
  other.pre = "smollm";

  EXPECT_EQ(tiny()->digest(), tiny()->digest());
  EXPECT_EQ(tiny()->digest().size(), 64u);
  EXPECT_NE(tiny()->digest(), Tokenizer::from_gguf(other).value()->digest());
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const auto tokenizer = tiny();
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;

  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 200; ++turn) {
        const std::string text = "hello " + std::to_string(turn % 20) + " hello";
        const auto ids = tokenizer->encode(text, false).value();
        right += tokenizer->decode(ids, true).value() == text;
      }
    });
  for (auto& thread : threads) thread.join();

  EXPECT_EQ(right, 800);
}

TEST(Tokenizer, FilesThatAreNoTokenizerAreNamed) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("mlxs_not_a_tokenizer_" + std::to_string(::getpid()) + ".json");
  std::ofstream{path} << "{\"model\": 1}";

  const auto missing = Tokenizer::from_file("/nonexistent/tokenizer.json");
  const auto wrong = Tokenizer::from_file(path);
  std::filesystem::remove(path);

  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent/tokenizer.json"));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(wrong.error().message, HasSubstr(path.string()));
}

}  // namespace
}  // namespace mlxs::engine
