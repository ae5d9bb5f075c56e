// What configurations are refused, and by which key; real ones are read whole. What accepted ones
// compute is checked in tests/golden.

#include "engine/models/model.h"

#include "engine/load/mapped_file.h"
#include "engine/models/decoder_spec.h"

#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/dtype.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::engine {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kPlain = R"({
  "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-6, "num_experts": 8,
  "num_experts_per_tok": 2, "moe_intermediate_size": 32})";

boost::json::object parsed(std::string_view text) {
  return parse_json_object(text, "config.json").value();
}

Checkpoint checkpoint_of(std::string_view model_type, std::string_view changes = "{}") {
  Checkpoint checkpoint;
  checkpoint.config_file = "config.json";
  checkpoint.config = parsed(kPlain);
  checkpoint.config["model_type"] = model_type;
  for (const auto& [key, value] : parsed(changes)) checkpoint.config[key] = value;
  return checkpoint;
}

/// What comes of a checkpoint without tensors: a refused configuration, or the first of them.
std::string complaint(const Checkpoint& checkpoint) {
  WeightReader weights(checkpoint, {mlx::core::float32}, {});
  const auto model = make_model(checkpoint, weights);
  if (!model) return model.error().message;
  return weights.finish().error().message;
}

TEST(MakeModel, AsksForTensorsOnceTheConfigurationIsGood) {
  for (const std::string_view type : supported_model_types()) {
    EXPECT_THAT(complaint(checkpoint_of(type)), HasSubstr("is missing")) << type;
  }
}

TEST(MakeModel, NamesWhatItKnowsWhenItDoesNot) {
  const std::string message = complaint(checkpoint_of("mamba"));
  EXPECT_THAT(message, HasSubstr("'mamba'"));
  for (const std::string_view type : supported_model_types()) {
    EXPECT_THAT(message, HasSubstr(std::string(type)));
  }
}

TEST(MakeModel, RefusesByKeyWhatItWouldComputeWrongly) {
  const struct {
    std::string_view model_type, changes, key;
  } cases[] = {
      {"llama", R"({"num_key_value_heads": 3})", "'num_key_value_heads'"},
      {"llama", R"({"head_dim": 7})", "'head_dim'"},
      {"llama", R"({"hidden_act": "relu"})", "'hidden_act'"},
      {"llama", R"({"partial_rotary_factor": 0.5})", "'partial_rotary_factor'"},
      {"llama", R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", "'rope_scaling'"},
      {"llama", R"({"rope_scaling": {"type": "yarn", "factor": -2}})", "'rope_scaling'"},
      {"llama", R"({"quantization_config": {"quant_method": "gptq"}})", "'quantization_config'"},
      {"llama", R"({"num_hidden_layers": 100000})", "'num_hidden_layers'"},
      {"qwen2", R"({"use_sliding_window": true})", "'use_sliding_window'"},
      {"qwen3", R"({"layer_types": ["full_attention", "sliding_attention"]})", "'layer_types'"},
      {"qwen3_moe", R"({"num_experts_per_tok": 9})", "'num_experts_per_tok'"},
      {"qwen3_moe", R"({"num_experts": null})", "'num_experts'"},
      {"gemma2", R"({"layer_types": ["full_attention"]})", "'layer_types'"},
      {"gemma2", R"({"layer_types": ["full_attention", "linear_attention"]})", "'layer_types'"},
      {"gemma3",
       R"({"rope_parameters": {"full_attention": {"rope_type": "ntk"}}})",
       "'rope_parameters'"},
      {"gemma3", R"({"rope_local_base_freq": 0})", "'rope_local_base_freq'"},
  };
  for (const auto& test : cases) {
    const std::string message = complaint(checkpoint_of(test.model_type, test.changes));
    EXPECT_THAT(message, HasSubstr(std::string(test.key))) << test.changes;
    EXPECT_THAT(message, HasSubstr("[config] config.json")) << test.changes;
  }
}

TEST(Windows, FollowThePatternOrTheList) {
  const auto windows = [](const Checkpoint& checkpoint, int pattern) {
    ConfigReader config(checkpoint.config, checkpoint.config_file);
    DecoderSpec spec = read_decoder_spec(checkpoint, config, {});
    read_windows(checkpoint, config, 4096, pattern, spec);
    EXPECT_TRUE(config.status());
    std::vector<int> result;
    for (const LayerSpec& layer : spec.layers) result.push_back(layer.attention.window);
    return result;
  };
  const std::string six = R"("num_hidden_layers": 6)";
  EXPECT_EQ(windows(checkpoint_of("gemma2", "{" + six + "}"), 2),
            (std::vector<int>{4096, 0, 4096, 0, 4096, 0}));
  EXPECT_EQ(windows(checkpoint_of("gemma3", "{" + six + R"(, "sliding_window": 512})"), 6),
            (std::vector<int>{512, 512, 512, 512, 512, 0}));
  EXPECT_EQ(windows(checkpoint_of("gemma2",
                                  R"({"layer_types": ["full_attention", "sliding_attention"]})"),
                    2),
            (std::vector<int>{0, 4096}));
}

TEST(RealConfigurations, AreReadWhole) {
  const auto read = [](const std::string& name) {
    const auto path =
        std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/configs" / (name + ".json");
    Checkpoint checkpoint;
    checkpoint.config_file = path.string();
    checkpoint.config = parsed(read_small_file(path, 1 << 20).value());
    return checkpoint;
  };
  for (const char* name : {"qwen3-4b", "qwen3-30b-a3b", "gemma-2-27b"}) {
    EXPECT_THAT(complaint(read(name)), HasSubstr("'model.embed_tokens.weight' is missing")) << name;
  }
  const Checkpoint gemma = read("gemma-2-27b");
  ConfigReader config(gemma.config, gemma.config_file);
  const DecoderSpec spec = read_decoder_spec(gemma, config, {});
  EXPECT_EQ(spec.layers.size(), 46u);
  EXPECT_EQ(spec.head_dim, 128);
  EXPECT_EQ(spec.layers[0].feed_forward.activation, Activation::kGeluTanh);
}

// docs/models.md has a row for each family.
TEST(Documentation, NamesEveryFamily) {
  const auto page =
      read_small_file(std::filesystem::path(MLXS_SOURCE_DIR) / "docs/models.md", 1 << 20).value();
  const std::string families = page.substr(0, page.find("## Operations"));
  for (const std::string_view type : supported_model_types()) {
    EXPECT_THAT(families,
                ::testing::ContainsRegex(fmt::format("\\| ([a-z0-9_]+, )?{}(,| \\|)", type)));
  }
}

}  // namespace
}  // namespace mlxs::engine
