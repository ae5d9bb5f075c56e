#include "engine/load/checkpoint.h"

#include "engine/testing/gguf_writer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {
namespace {

using ::mlxs::engine::testing::GgufWriter;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "mlxs-checkpoint-XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  std::filesystem::path write(const std::string& name, const std::vector<std::byte>& bytes) const {
    return write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  std::filesystem::path folder_;
};

GgufWriter llama() {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_uint32("llama.embedding_length", 2);
  writer.add_uint32("llama.block_count", 1);
  writer.add_uint32("llama.attention.head_count", 2);
  writer.add_uint32("llama.attention.head_count_kv", 1);
  writer.add_float32("llama.attention.layer_norm_rms_epsilon", 0.5f);
  writer.add_uint32("tokenizer.ggml.eos_token_id", 2);
  writer.add_uint32("tokenizer.ggml.eot_token_id", 7);
  writer.add_uint32("tokenizer.ggml.eom_token_id", 2);
  writer.add_floats("token_embd.weight", {3, 2}, {1, 2, 3, 4, 5, 6});
  writer.add_floats("blk.0.attn_q.weight", {8, 1}, {0, 2, 1, 3, 4, 6, 5, 7});
  writer.add_floats("blk.0.attn_k.weight", {4, 1}, {0, 2, 1, 3});
  writer.add_floats("blk.0.attn_v.weight", {4, 1}, {0, 1, 2, 3});
  return writer;
}

TEST_F(Checkpoints, GgufComesWithHuggingFaceNamesAndKeys) {
  const auto checkpoint = open_checkpoint(write("m.gguf", llama().finish()));
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;

  EXPECT_EQ(checkpoint->config.at("model_type"), "llama");
  EXPECT_EQ(checkpoint->config.at("hidden_size"), 2);
  EXPECT_EQ(checkpoint->config.at("num_key_value_heads"), 1);
  EXPECT_EQ(checkpoint->config.at("rms_norm_eps"), 0.5);
  EXPECT_EQ(checkpoint->config.at("vocab_size"), 3);
  EXPECT_EQ(checkpoint->config.at("tie_word_embeddings"), true);
  EXPECT_THAT(checkpoint->end_tokens, ElementsAre(2, 7));
  EXPECT_TRUE(checkpoint->tensors.contains("model.embed_tokens.weight"));
  EXPECT_EQ(checkpoint->tensors.at("model.layers.0.self_attn.q_proj.weight").interleaved_heads, 2);
  EXPECT_EQ(checkpoint->tensors.at("model.layers.0.self_attn.k_proj.weight").interleaved_heads, 1);
  EXPECT_EQ(checkpoint->tensors.at("model.layers.0.self_attn.v_proj.weight").interleaved_heads, 0);
}

TEST_F(Checkpoints, OutputWeightMeansUntiedEmbeddings) {
  GgufWriter writer = llama();
  writer.add_floats("output.weight", {3, 2}, {1, 2, 3, 4, 5, 6});
  const auto checkpoint = open_checkpoint(write("m.gguf", writer.finish()));

  EXPECT_EQ(checkpoint->config.at("tie_word_embeddings"), false);
  EXPECT_TRUE(checkpoint->tensors.contains("lm_head.weight"));
}

TEST_F(Checkpoints, DigestChangesWithMetadataAndTime) {
  const auto path = write("m.gguf", llama().finish());
  const std::string first = open_checkpoint(path)->digest;
  EXPECT_EQ(open_checkpoint(path)->digest, first);
  EXPECT_EQ(first.size(), 64u);

  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(1));
  EXPECT_NE(open_checkpoint(path)->digest, first);
}

TEST_F(Checkpoints, MissingFilesAreNotFound) {
  EXPECT_EQ(open_checkpoint(folder_ / "absent.gguf").error().code, ErrorCode::kNotFound);
  const auto no_config = open_checkpoint(folder_);
  EXPECT_EQ(no_config.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(no_config.error().message, HasSubstr("config.json"));
  write("config.json", "{}");
  EXPECT_THAT(open_checkpoint(folder_).error().message, HasSubstr("model.safetensors"));
}

TEST_F(Checkpoints, IndexStaysInItsFolder) {
  write("config.json", "{}");
  for (const char* name : {"../x.safetensors", "/etc/passwd", "..", ""}) {
    write("model.safetensors.index.json", std::string(R"({"weight_map":{"t":")") + name + R"("}})");
    EXPECT_EQ(open_checkpoint(folder_).error().code, ErrorCode::kCorruptFile) << name;
  }
  write("model.safetensors.index.json", R"({"weight_map":[]})");
  EXPECT_EQ(open_checkpoint(folder_).error().code, ErrorCode::kCorruptFile);
}

TEST_F(Checkpoints, EndTokensPreferTheGenerationConfig) {
  const std::string header("\x02\0\0\0\0\0\0\0{}", 10);
  write("model.safetensors", header);
  write("config.json", R"({"eos_token_id":3})");
  EXPECT_THAT(open_checkpoint(folder_)->end_tokens, ElementsAre(3));
  write("generation_config.json", R"({"eos_token_id":[4,5],"top_p":0.8})");
  EXPECT_THAT(open_checkpoint(folder_)->end_tokens, ElementsAre(4, 5));
}

// Gemma 3 as Hugging Face has it, old and new, with a vision tower beside the text part.
TEST_F(Checkpoints, TextPartOfAModelThatSeesStandsAlone) {
  const auto entry = [](const char* name, int at) {
    return fmt::format(
        R"("{}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}})", name, at, at + 4);
  };
  const std::string json = fmt::format("{{{},{},{},{}}}",
                                       entry("language_model.model.norm.weight", 0),
                                       entry("model.language_model.embed_tokens.weight", 4),
                                       entry("vision_tower.patch.weight", 8),
                                       entry("multi_modal_projector.weight", 12));
  std::string header(8, '\0');
  header[0] = static_cast<char>(json.size() & 0xff);
  header[1] = static_cast<char>(json.size() >> 8);
  write("model.safetensors", header + json + std::string(16, '\0'));
  write("config.json",
        R"({"model_type":"gemma3","eos_token_id":[1,106],"vision_config":{},)"
        R"("text_config":{"hidden_size":1152,"model_type":"gemma3_text"}})");

  const auto checkpoint = open_checkpoint(folder_);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;

  EXPECT_EQ(checkpoint->config.at("hidden_size"), 1152);
  EXPECT_EQ(checkpoint->config.at("model_type"), "gemma3");
  EXPECT_THAT(checkpoint->end_tokens, ElementsAre(1, 106));
  EXPECT_EQ(checkpoint->tensors.size(), 2u);
  EXPECT_TRUE(checkpoint->tensors.contains("model.norm.weight"));
  EXPECT_TRUE(checkpoint->tensors.contains("model.embed_tokens.weight"));
}

TEST_F(Checkpoints, EmptyAndDirectoryLikeFilesAreErrors) {
  EXPECT_EQ(open_checkpoint(write("empty.gguf", "")).error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(open_checkpoint("/dev/null").error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace mlxs::engine
