#include "engine/text/golden_file.h"
#include "engine/text/tokenizer.h"

#include <gtest/gtest.h>

#include <functional>

namespace mlxs::engine {
namespace {

using Check = std::function<void(const Tokenizer&, const boost::json::value& golden)>;

/// Calls `check` with each small tokenizer and what Hugging Face makes of it.
void for_each_kind(const Check& check) {
  const auto file = golden_file("small_ids.json");
  for (const auto& [kind, golden] : file.at("kinds").as_object()) {
    SCOPED_TRACE(std::string{kind});
    const auto tokenizer = Tokenizer::from_file(MLXS_SOURCE_DIR "/tests/golden/text/small/" +
                                                std::string{kind} + ".json");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    check(**tokenizer, golden);
  }
}

/// The ids of the texts, then random ones.
std::vector<std::vector<TokenId>> rows_of(const boost::json::value& golden) {
  std::vector<std::vector<TokenId>> out;
  for (const auto* key : {"ids", "random"})
    for (const auto& row : golden.at(key).as_array()) out.push_back(ids_of(row));
  return out;
}

TEST(FileGolden, IdsEqualHuggingFaces) {
  const auto file = golden_file("small_ids.json");
  const auto& texts = file.at("texts").as_array();

  for_each_kind([&](const Tokenizer& tokenizer, const boost::json::value& golden) {
    for (std::size_t index = 0; index < texts.size(); ++index)
      EXPECT_EQ(tokenizer.encode(texts[index].as_string(), true).value(),
                ids_of(golden.at("ids").at(index)))
          << texts[index];
    for (std::size_t index = 0; index < golden.at("ids_plain").as_array().size(); ++index)
      EXPECT_EQ(tokenizer.encode(texts[index].as_string(), false).value(),
                ids_of(golden.at("ids_plain").at(index)))
          << texts[index];
  });
}

TEST(FileGolden, TextEqualsHuggingFaces) {
  for_each_kind([](const Tokenizer& tokenizer, const boost::json::value& golden) {
    const auto rows = rows_of(golden);
    for (std::size_t index = 0; index < rows.size(); ++index) {
      EXPECT_EQ(tokenizer.decode(rows[index], true).value(),
                golden.at("decoded").at(index).as_string());
      EXPECT_EQ(tokenizer.decode(rows[index], false).value(),
                golden.at("decoded_special").at(index).as_string());
    }
  });
}

TEST(FileGolden, StreamedTextEqualsHuggingFaces) {
  for_each_kind([](const Tokenizer& tokenizer, const boost::json::value& golden) {
    const auto rows = rows_of(golden);
    for (std::size_t index = 0; index < rows.size(); ++index)
      EXPECT_EQ(streamed(tokenizer, rows[index]), golden.at("decoded").at(index).as_string())
          << "row " << index;
  });
}

TEST(FileGolden, AByteRunThatBreaksLateKeepsTheCharactersBefore) {
  const auto tokenizer =
      Tokenizer::from_file(MLXS_SOURCE_DIR "/tests/golden/text/small/llama2.json").value();
  StreamDecoder decoder{*tokenizer};
  const auto push = [&](const char* token) {
    return decoder.push(tokenizer->token_id(token)).value();
  };

  EXPECT_EQ(push("<0xC3>"), "");
  EXPECT_EQ(push("<0xA9>"), "\u00E9");
  EXPECT_EQ(push("<0xFF>"), "");
  EXPECT_EQ(push("<0x41>"), "");
  EXPECT_EQ(push("a"), "\uFFFD\uFFFDa");
  EXPECT_EQ(push("<0xE2>"), "");
  EXPECT_EQ(decoder.finish().value(), "\uFFFD");
}

}  // namespace
}  // namespace mlxs::engine
