#include "engine/model_runner.h"

#include "engine/load/memory_limit.h"
#include "engine/testing/gguf_writer.h"
#include "engine/testing/temp_folder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/memory.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

using ::mlxs::engine::testing::GgufWriter;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kWidth = 32;
constexpr std::uint64_t kVocab = 24;

struct Tensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};

/// A llama of one layer, two heads of 16, in a GGUF whose parts a test can change.
struct TinyGguf {
  std::map<std::string, Tensor> tensors;
  std::uint32_t layers = 1;
  std::uint32_t context = 64;

  TinyGguf() {
    std::mt19937 random(5);
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
      std::size_t count = 1;
      for (const auto axis : shape) count *= axis;
      Tensor tensor{std::move(shape), std::vector<float>(count)};
      for (float& value : tensor.values) value = static_cast<float>(random() % 2001) / 4000 - 0.25f;
      tensors[name] = std::move(tensor);
    };
    add("token_embd.weight", {kVocab, kWidth});
    add("output_norm.weight", {kWidth});
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      add(std::string("blk.0.") + name + ".weight", {kWidth, kWidth});
    }
    add("blk.0.ffn_gate.weight", {48, kWidth});
    add("blk.0.ffn_up.weight", {48, kWidth});
    add("blk.0.ffn_down.weight", {kWidth, 48});
    add("blk.0.attn_norm.weight", {kWidth});
    add("blk.0.ffn_norm.weight", {kWidth});
  }

  std::filesystem::path write() const { return write(bytes()); }

  static std::filesystem::path write(const std::vector<std::byte>& bytes) {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ranges::replace(name, '/', '_');
    const auto path =
        std::filesystem::path(::testing::TempDir()) / fmt::format("{}-{}.gguf", name, ::getpid());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    return path;
  }

  std::vector<std::byte> bytes() const {
    GgufWriter writer;
    writer.add_string("general.architecture", "llama");
    writer.add_uint32("llama.embedding_length", kWidth);
    writer.add_uint32("llama.block_count", layers);
    writer.add_uint32("llama.feed_forward_length", 48);
    writer.add_uint32("llama.attention.head_count", 2);
    writer.add_uint32("llama.context_length", context);
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2);
    for (const auto& [name, tensor] : tensors) {
      writer.add_floats(name, tensor.shape, tensor.values);
    }
    return writer.finish();
  }
};

ModelOptions options_of(const TinyGguf& gguf) {
  ModelOptions options;
  options.source = gguf.write();
  options.kv_bytes = std::uint64_t{1} << 20;
  return options;
}

Result<std::unique_ptr<Runner>> load(const TinyGguf& gguf) {
  return load_runner(options_of(gguf), {});
}

Step step_of(std::vector<TokenId> tokens, std::vector<int> logits_at) {
  const int count = static_cast<int>(tokens.size());
  return {.tokens = std::move(tokens),
          .segments = {{0, count, count, {BlockId{1}, BlockId{0}}}},
          .logits_at = std::move(logits_at)};
}

TEST(ModelRunner, TellsWhatItLoaded) {
  const auto runner = load(TinyGguf{});
  ASSERT_TRUE(runner) << runner.error().message;

  const ModelInfo& info = (*runner)->info();
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.vocab_size, static_cast<int>(kVocab));
  EXPECT_EQ(info.context_tokens_max, 64);
  EXPECT_THAT(info.end_tokens, ElementsAre(2));
  EXPECT_EQ(info.kv_bytes,
            static_cast<std::uint64_t>(info.blocks_total) * info.block_tokens * 2 * kWidth *
                sizeof(std::uint16_t));
  EXPECT_LE(info.kv_bytes, std::uint64_t{1} << 20);
  constexpr auto kOthers = 3 * kWidth + 4 * kWidth * kWidth + 3 * 48 * kWidth;
  constexpr auto kPanel = 16;  // CPU kernels fill up rows to multiples.
  EXPECT_GE(info.weights_bytes, (kVocab * kWidth + kOthers) * sizeof(float));
  EXPECT_LT(info.weights_bytes, ((kVocab + kPanel) * kWidth + kOthers) * sizeof(float));
  EXPECT_EQ(info.weights_digest.size(), 64u);
}

TEST(ModelRunner, ReportsProgressUpToOne) {
  std::vector<double> seen;
  ASSERT_TRUE(load_runner(options_of(TinyGguf{}), [&](double done) { seen.push_back(done); }));

  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(seen.back(), 1.0);
  EXPECT_GT(seen.size(), 5u);
}

TEST(ModelRunner, ContextIsCutByItsOption) {
  ModelOptions options = options_of(TinyGguf{});
  options.context_tokens_max = 40;
  EXPECT_EQ(load_runner(options, {}).value()->info().context_tokens_max, 40);
  options.context_tokens_max = 4000;
  EXPECT_EQ(load_runner(options, {}).value()->info().context_tokens_max, 64);
}

TEST(ModelRunner, GivesLogitsOfTheWantedRowsOnly) {
  const auto runner = load(TinyGguf{}).value();
  const auto all = runner->run(step_of({1, 2, 3, 4}, {0, 1, 2, 3}));
  ASSERT_TRUE(all);
  const std::vector<float> values(all->values.begin(), all->values.end());

  const auto some = runner->run(step_of({1, 2, 3, 4}, {1, 3}));

  ASSERT_EQ(some->values.size(), 2 * kVocab);
  for (std::size_t i = 0; i < kVocab; ++i) {
    EXPECT_NEAR(some->row(0)[i], values[kVocab + i], 1e-6);
    EXPECT_NEAR(some->row(1)[i], values[3 * kVocab + i], 1e-6);
  }
}

TEST(ModelRunner, AStepWithoutLogitsStillFillsTheCache) {
  const auto runner = load(TinyGguf{}).value();
  const auto whole = runner->run(step_of({7, 8, 9}, {2}));
  const std::vector<float> expected(whole->values.begin(), whole->values.end());

  ASSERT_TRUE(runner->run(step_of({7, 8}, {})));
  Step last = step_of({9}, {0});
  last.segments[0].kv_len = 3;
  const auto logits = runner->run(last);

  for (std::size_t i = 0; i < kVocab; ++i) EXPECT_NEAR(logits->row(0)[i], expected[i], 1e-5);
}

TEST(ModelRunner, DroppingTheRunnerFreesItsMemory) {
  const std::size_t before = mlx::core::get_active_memory();
  for (int i = 0; i < 3; ++i) {
    const auto runner = load(TinyGguf{}).value();
    EXPECT_GT(mlx::core::get_active_memory(), before + (std::size_t{1} << 19));
  }
  EXPECT_LE(mlx::core::get_active_memory(), before + 4096);
}

TEST(ModelRunner, NamesAMissingTensor) {
  TinyGguf gguf;
  gguf.tensors.erase("blk.0.ffn_up.weight");
  const auto runner = load(gguf);

  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(runner.error().message,
              AllOf(HasSubstr("mlp.up_proj.weight"), HasSubstr("missing"), HasSubstr(".gguf")));
}

TEST(ModelRunner, NamesAnExtraTensor) {
  TinyGguf gguf;
  gguf.tensors["blk.0.surprise.weight"] = {{2}, {1, 2}};
  const auto runner = load(gguf);

  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(runner.error().message, HasSubstr("blk.0.surprise.weight"));
}

TEST(ModelRunner, NamesBothShapesOfAMisshapedTensor) {
  TinyGguf gguf;
  gguf.tensors["blk.0.attn_k.weight"] = {{16, kWidth}, std::vector<float>(16 * kWidth)};
  const auto runner = load(gguf);

  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(runner.error().message,
              AllOf(HasSubstr("attn_k"), HasSubstr("[16, 32]"), HasSubstr("[32, 32]")));
}

TEST(ModelRunner, AbsurdLayerCountsEndAtTheFirstMissingTensor) {
  TinyGguf gguf;
  gguf.layers = 16'000'000;
  EXPECT_EQ(load(gguf).error().code, ErrorCode::kCorruptFile);
}

TEST(ModelRunner, RefusesArchitecturesItDoesNotHave) {
  GgufWriter writer;
  writer.add_string("general.architecture", "mamba");
  ModelOptions options;
  options.source = TinyGguf::write(writer.finish());
  const auto runner = load_runner(options, {});

  EXPECT_EQ(runner.error().code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(runner.error().message, HasSubstr("mamba"));
}

// Hostile files: a clean error or a runner, nothing else.
TEST(ModelRunner, SurvivesDamagedFiles) {
  const std::vector<std::byte> whole = TinyGguf{}.bytes();
  std::mt19937 random(9);
  int loaded = 0;
  for (int round = 0; round < 1500; ++round) {
    auto damaged = whole;
    // The header is where damage can do harm; the numbers behind it only make nonsense.
    for (int i = 0; i < 2; ++i) damaged[random() % 1400] = std::byte(random() % 256);
    if (random() % 8 == 0) damaged.resize(random() % damaged.size());
    ModelOptions options;
    options.source = TinyGguf::write(damaged);
    options.kv_bytes = std::uint64_t{1} << 20;
    const auto runner = load_runner(options, {});
    if (runner) {
      ++loaded;
      continue;
    }
    const ErrorCode code = runner.error().code;
    ASSERT_TRUE(code == ErrorCode::kCorruptFile || code == ErrorCode::kInvalidRequest ||
                code == ErrorCode::kOutOfMemory)
        << runner.error().message;
  }
  EXPECT_GT(loaded, 10);
  EXPECT_LT(loaded, 1490);
}

/// The logits of a step with one row.
std::vector<float> logits_of(Runner& runner) {
  Step step;
  step.tokens = {1, 2, 3};
  step.segments = {{0, 3, 3, {BlockId{0}}}};
  step.logits_at = {2};
  const auto logits = runner.run(step);
  EXPECT_TRUE(logits);
  return logits ? std::vector<float>(logits->values.begin(), logits->values.end())
                : std::vector<float>{};
}

TEST(ModelRunner, Int8IsNearAutoButAnotherModelToCaches) {
  ModelOptions options;
  options.source = std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/models/llama_q4";
  auto fine = load_runner(options, {});
  options.compute = Compute::kInt8;
  auto rough = load_runner(options, {});
  ASSERT_TRUE(fine && rough);
  const auto a = logits_of(**fine);
  const auto b = logits_of(**rough);
  ASSERT_EQ(a.size(), b.size());
  EXPECT_NE(a, b);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 0.1) << i;
  EXPECT_NE((*fine)->info().weights_digest, (*rough)->info().weights_digest);
}

/// A llama of which nothing is quantised, and experts in four bits.
class KeptWeights : public ::testing::TestWithParam<const char*> {};

TEST_P(KeptWeights, GiveTheSameLogits) {
  const TempFolder folder;
  ModelOptions options;
  const std::string name = GetParam();
  options.source = name == "llama"
                       ? TinyGguf{}.write()
                       : std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/models" / name;
  options.packed_folder = folder.path() / "weights";
  const auto logits = [&] {
    auto runner = load_runner(options, {});
    EXPECT_TRUE(runner) << runner.error().message;
    return logits_of(**runner);
  };
  const auto files = [&] {
    std::error_code none;
    std::vector<std::filesystem::path> found;
    for (std::filesystem::directory_iterator entry(options.packed_folder, none), end; entry != end;
         entry.increment(none)) {
      if (entry->path().extension() == ".packed") found.push_back(entry->path());
    }
    return found;
  };
  const auto packed_now = logits();
  EXPECT_TRUE(files().empty()) << "kept without being asked to";

  options.packed_bytes_max = 1 << 20;
  {
    auto runner = load_runner(options, {});
    ASSERT_TRUE(runner);
    while (files().empty()) std::this_thread::yield();  // Nobody but the runner waits for it.
  }
  const auto kept_at = std::filesystem::last_write_time(files().front());
  EXPECT_EQ(logits(), packed_now);
  EXPECT_GT(std::filesystem::last_write_time(files().front()), kept_at) << "was not used";

  std::ofstream(files().front(), std::ios::binary | std::ios::app) << "damage";
  EXPECT_EQ(logits(), packed_now);
}

INSTANTIATE_TEST_SUITE_P(ModelRunner, KeptWeights, ::testing::Values("llama", "qwen3_moe_q4"));

TEST(ModelRunner, RefusesAPoolThatDoesNotFit) {
  ModelOptions options = options_of(TinyGguf{});
  options.kv_bytes = 100;  // Less than one block.
  EXPECT_EQ(load_runner(options, {}).error().code, ErrorCode::kOutOfMemory);
  options.kv_bytes = memory_limit_bytes() + 1;
  EXPECT_EQ(load_runner(options, {}).error().code, ErrorCode::kOutOfMemory);
}

class GenerationConfig : public ::testing::Test {
 protected:
  GenerationConfig() {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models/llama_f32",
                          folder_);
  }
  Result<std::unique_ptr<Runner>> load_with(const char* generation) {
    std::ofstream(folder_ / "generation_config.json") << generation;
    ModelOptions options;
    options.source = folder_;
    options.kv_bytes = std::uint64_t{1} << 20;
    return load_runner(options, {});
  }
  const std::filesystem::path folder_ = std::filesystem::path(::testing::TempDir()) / "generation";
};

TEST_F(GenerationConfig, HasTheDefaultsOfWhatARequestLeavesOpen) {
  const auto runner = load_with(
      R"({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05,
          "repetition_penalty": 1.05, "max_new_tokens": 7, "do_sample": false})");
  ASSERT_TRUE(runner) << runner.error().message;
  const SamplingParams& defaults = (*runner)->info().default_sampling;
  EXPECT_FLOAT_EQ(defaults.temperature, 0.7f);
  EXPECT_FLOAT_EQ(defaults.top_p, 0.8f);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_FLOAT_EQ(defaults.min_p, 0.05f);
  EXPECT_FLOAT_EQ(defaults.repetition_penalty, 1.05f);
}

TEST_F(GenerationConfig, LeavesOpenAisDefaultsWhereItSaysNothing) {
  const SamplingParams defaults = load_with("{}").value()->info().default_sampling;
  EXPECT_EQ(defaults.temperature, 1);
  EXPECT_EQ(defaults.top_p, 1);
  EXPECT_EQ(defaults.top_k, 0);
  EXPECT_EQ(defaults.repetition_penalty, 1);
}

TEST_F(GenerationConfig, KeepsAModelFromLoadingWithValuesOutOfRange) {
  for (const char* wrong : {R"({"repetition_penalty": 0})",
                            R"({"min_p": 1.5})",
                            R"({"temperature": -1})",
                            R"({"top_p": 0})",
                            R"({"top_k": -1})"}) {
    const auto runner = load_with(wrong);
    ASSERT_FALSE(runner) << wrong;
    const std::string key = std::string(wrong).substr(2, std::string(wrong).find(':') - 3);
    EXPECT_THAT(runner.error().message, HasSubstr(key));
  }
}

// R-ENG-4: budgets count buffers, too.
TEST(ModelRunner, RefusesAModelOfMoreBuffersThanTheDeviceHas) {
  ModelOptions options = options_of(TinyGguf{});
  const std::uint64_t needed = load_runner(options, {}).value()->info().buffers;
  EXPECT_GE(needed, TinyGguf{}.tensors.size() + 2);

  options.device = DeviceLimits{.buffers = needed};
  options.device->bytes = std::uint64_t{1} << 30;
  EXPECT_TRUE(load_runner(options, {}));
  options.device->buffers = needed - 1;
  const auto refused = load_runner(options, {});

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
  EXPECT_THAT(refused.error().message, HasSubstr("buffers"));
}

TEST(ModelRunner, MakesNoBufferLongerThanTheDeviceTakes) {
  ModelOptions options = options_of(TinyGguf{});
  constexpr std::uint64_t kKeysOfABlock = 32 * kWidth * sizeof(std::uint16_t);
  options.device =
      DeviceLimits{.bytes = std::uint64_t{1} << 30, .buffer_bytes = 5 * kKeysOfABlock + 1};
  EXPECT_EQ(load_runner(options, {}).value()->info().blocks_total, 5);
}

TEST(ModelRunner, WidensQuantisedWeightsWhereTheirRealSizeFits) {
  ModelOptions options;
  options.source = std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models/llama_q8";
  options.compute = Compute::kFloat32;
  options.kv_bytes = std::uint64_t{1} << 16;
  const auto weights_at = [&](std::uint64_t limit) {
    options.device = DeviceLimits{.bytes = limit};
    return load_runner(options, {}).value()->info().weights_bytes;
  };
  const std::uint64_t wide = weights_at(std::uint64_t{1} << 30);

  EXPECT_EQ(weights_at(3 * wide), wide);  // half of it is enough
  EXPECT_LT(weights_at(wide), wide / 2);  // else they stay at eight bits
}

// R-ENG-4: gemma2's small model has one layer that sees 20 positions and one that sees all.
TEST(ModelRunner, LayersWithAWindowGetTheBlocksTheirRowsCanNeedAndTheOthersTheRest) {
  ModelOptions options;
  options.source = std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models/gemma2_f32";
  options.kv_bytes = std::uint64_t{4} << 20;
  options.sequences_max = 2;
  options.step_tokens_max = 64;

  const ModelInfo info = load_runner(options, {}).value()->info();

  ASSERT_EQ(info.windows.size(), 1u);
  EXPECT_EQ(info.windows[0].tokens, 20);
  EXPECT_EQ(info.windows[0].blocks_total, 2 * (1 + 2) + 2);
  constexpr std::uint64_t kLayerBlock =
      2 * 2 * 16 * 32 * sizeof(std::uint16_t);  // keys, values, 2 heads
  EXPECT_EQ(info.kv_bytes,
            kLayerBlock * static_cast<std::uint64_t>(info.blocks_total + 2 * (1 + 2) + 2));
  EXPECT_GT(info.kv_bytes + kLayerBlock, *options.kv_bytes);  // nothing is left unused

  options.kv_bytes = 11 * kLayerBlock;  // fewer than the window could need: as many for each
  const ModelInfo small = load_runner(options, {}).value()->info();
  EXPECT_EQ(small.blocks_total, 5);
  EXPECT_EQ(small.windows[0].blocks_total, 5);
}

TEST(ModelRunner, ByDefaultRowsShareAQuarterContextEach) {
  ModelOptions options = options_of(TinyGguf{});
  options.kv_bytes.reset();
  options.sequences_max = 16;
  const auto runner = load_runner(options, {}).value();
  // 16 rows of a quarter of 64 positions, rounded to blocks of 32.
  EXPECT_GE(runner->info().blocks_total, 16 * 64 / 4 / 32);
  options.sequences_max = 1;
  EXPECT_GE(load_runner(options, {}).value()->info().blocks_total, 64 / 32);
}

}  // namespace
}  // namespace mlxs::engine
