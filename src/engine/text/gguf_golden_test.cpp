#include "base/utf8.h"
#include "engine/load/gguf.h"
#include "engine/load/mapped_file.h"
#include "engine/model_runner.h"
#include "engine/text/golden_file.h"
#include "engine/text/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace mlxs::engine {
namespace {

constexpr const char* kModel = MLXS_SOURCE_DIR "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The default model's vocabulary with `pre` as the name of its pre-tokenizer.
std::unique_ptr<Tokenizer> tokenizer_of(const std::string& pre) {
  static const auto vocabulary = [] {
    const auto file = MappedFile::open(kModel).value();
    const auto gguf = Gguf::parse(file.bytes(), kModel).value();
    GgufVocabulary out;
    out.model = gguf.string("tokenizer.ggml.model").value();
    out.tokens = gguf.strings("tokenizer.ggml.tokens").value();
    out.token_types = gguf.integers("tokenizer.ggml.token_type").value();
    out.merges = gguf.strings("tokenizer.ggml.merges").value();
    return out;
  }();
  auto given = vocabulary;
  given.pre = pre;
  return Tokenizer::from_gguf(given).value();
}

/// As the worker reads it.
const Tokenizer& smollm() {
  static const auto text = [] {
    ModelOptions options;
    options.source = kModel;
    return load_text(options).value();
  }();
  return *text.tokenizer;
}

TEST(GgufGolden, IdsEqualHuggingFaces) {
  const auto file = golden_file("smollm2.json");
  const auto& texts = file.at("texts").as_array();
  ASSERT_GE(texts.size(), 300u);

  for (std::size_t index = 0; index < texts.size(); ++index)
    EXPECT_EQ(smollm().encode(texts[index].as_string(), true).value(),
              ids_of(file.at("ids").at(index)))
        << texts[index];
}

TEST(GgufGolden, SpecialTokensAreThoseOfTheFile) {
  EXPECT_EQ(smollm().vocab_size(), 49152);
  EXPECT_EQ(smollm().token_id("<|endoftext|>"), 0);
  EXPECT_EQ(smollm().token_id("<|im_start|>"), 1);
  EXPECT_EQ(smollm().token_id("<|im_end|>"), 2);
}

TEST(GgufGolden, TextEqualsHuggingFaces) {
  const auto file = golden_file("smollm2.json");

  for (std::size_t index = 0; index < file.at("ids").as_array().size(); ++index) {
    const auto ids = ids_of(file.at("ids").at(index));
    const auto& decoded = file.at("decoded").at(index);
    EXPECT_EQ(smollm().decode(ids, true).value(), decoded.at(0).as_string());
    EXPECT_EQ(smollm().decode(ids, false).value(), decoded.at(1).as_string());
  }
  for (const auto& random : file.at("random").as_array()) {
    const auto ids = ids_of(random.at(0));
    EXPECT_EQ(smollm().decode(ids, true).value(), random.at(1).as_string());
    EXPECT_EQ(smollm().decode(ids, false).value(), random.at(2).as_string());
  }
}

TEST(GgufGolden, StreamedTextEqualsHuggingFaces) {
  const auto file = golden_file("smollm2.json");

  for (const auto& random : file.at("random").as_array())
    EXPECT_EQ(streamed(smollm(), ids_of(random.at(0))), random.at(1).as_string());
}

TEST(GgufGolden, EveryPreTokenizerEqualsItsOriginal) {
  const auto file = golden_file("pre_tokenizers.json");
  const auto& texts = file.at("texts").as_array();

  for (const auto& [pre, ids] : file.at("ids").as_object()) {
    const auto tokenizer = tokenizer_of(pre);
    for (std::size_t index = 0; index < texts.size(); ++index)
      EXPECT_EQ(tokenizer->encode(texts[index].as_string(), false).value(), ids_of(ids.at(index)))
          << pre << ": " << texts[index];
  }
}

TEST(GgufGolden, AnyTextComesBackFromItsIds) {
  const auto file = golden_file("smollm2.json");

  for (const auto& text : file.at("texts").as_array())
    EXPECT_EQ(smollm().decode(smollm().encode(text.as_string(), false).value(), false).value(),
              text.as_string());
}

RC_GTEST_PROP(GgufGolden, PiecesAreValidAndMakeUpTheWhole, ()) {
  const auto ids =
      *rc::gen::container<std::vector<TokenId>>(rc::gen::inRange(0, smollm().vocab_size()));
  StreamDecoder decoder{smollm()};
  std::string joined;

  for (const TokenId id : ids) {
    const auto piece = decoder.push(id).value();
    RC_ASSERT(utf8_valid(piece));
    joined += piece;
  }
  joined += decoder.finish().value();

  RC_ASSERT(joined == smollm().decode(ids, true).value());
}

}  // namespace
}  // namespace mlxs::engine
