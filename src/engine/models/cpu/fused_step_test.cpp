// A step as one operation gives the bits of the layers' own operations.

#include "engine/kv/pool.h"
#include "engine/load/checkpoint.h"
#include "engine/load/weights.h"
#include "engine/models/decoder.h"
#include "engine/ops/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

using ::testing::Pointwise;

constexpr int kVocabulary = 128;
constexpr int kBlocks = 12;

struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Model> model;

  [[nodiscard]] const Decoder& decoder() const { return dynamic_cast<const Decoder&>(*model); }
  [[nodiscard]] KvPool pool(mx::Dtype dtype) const {
    const ModelShape& shape = model->shape();
    return KvPool({std::vector<int>(static_cast<std::size_t>(shape.layers), kBlocks),
                   shape.kv_heads,
                   shape.head_dim,
                   dtype});
  }
};

Loaded load(const std::string& name, bool pack = true) {
  const auto folder = std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/models" / name;
  Loaded loaded;
  loaded.checkpoint = std::make_unique<Checkpoint>(open_checkpoint(folder).value());
  WeightReader weights(*loaded.checkpoint, {.dtype = mx::float32, .pack = pack}, {});
  loaded.model = make_model(*loaded.checkpoint, weights).value();
  EXPECT_TRUE(weights.finish());
  return loaded;
}

mx::array int_array(const std::vector<std::int32_t>& values) {
  return mx::array(values.begin(), {static_cast<int>(values.size())}, mx::int32);
}

/// Rows of a step: row r owns four blocks and goes from `done` on by `count` tokens.
struct RowPart {
  int row, done, count;
};
StepArrays step_of(const std::vector<RowPart>& parts, const std::vector<std::int32_t>& logits_at) {
  std::vector<Segment> segments;
  std::vector<std::int32_t> tokens, positions, slots;
  for (const RowPart& part : parts) {
    Segment segment{static_cast<int>(tokens.size()), part.count, part.done + part.count, {}};
    for (int i = 0; i < 4; ++i) segment.blocks.push_back(BlockId{4 * part.row + (i + 1) % 4});
    for (int p = part.done; p < part.done + part.count; ++p) {
      tokens.push_back((p * p + 7 * part.row + p / 3) % kVocabulary);
      positions.push_back(p);
      const auto block =
          static_cast<int>(segment.blocks[static_cast<std::size_t>(p / kBlockTokens)]);
      slots.push_back(block * kBlockTokens + p % kBlockTokens);
    }
    segments.push_back(std::move(segment));
  }
  return {.tokens = int_array(tokens),
          .positions = int_array(positions),
          .slots = int_array(slots),
          .logits_at = int_array(logits_at),
          .attention = std::make_shared<AttentionPlan>(segments, kBlockTokens)};
}

std::vector<std::uint32_t> evaluate(const mx::array& logits,
                                    KvPool& pool,
                                    std::vector<KvLayer> layers) {
  std::vector<mx::array> all{logits};
  for (const KvLayer& layer : layers) {
    all.push_back(layer.keys);
    all.push_back(layer.values);
  }
  mx::eval(all);
  pool.advance(std::move(layers));
  std::vector<std::uint32_t> bits;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    bits.push_back(std::bit_cast<std::uint32_t>(logits.data<float>()[i]));
  }
  return bits;
}

/// Prompts whole and in chunks, beside decode rows, logits in any order, twice or not at all.
std::vector<StepArrays> steps() {
  return {step_of({{0, 0, 37}}, {36}),
          step_of({{1, 0, 5}, {0, 37, 1}}, {}),
          step_of({{0, 38, 1}, {2, 0, 61}, {1, 5, 2}}, {63, 0, 0, 10}),
          step_of({{0, 39, 1}, {1, 7, 1}, {2, 61, 1}}, {0, 1, 2}),
          step_of({{2, 62, 1}}, {0})};
}

MATCHER(FewStepsApart, "") {
  return std::abs(static_cast<std::int64_t>(std::get<0>(arg)) - std::get<1>(arg)) <= 8;
}

class FusedStep : public testing::TestWithParam<const char*> {};

TEST_P(FusedStep, GivesTheBitsOfTheLayersOwnOperations) {
  const Loaded loaded = load(GetParam());
  ASSERT_TRUE(loaded.decoder().fused());
  KvPool fused = loaded.pool(mx::float32);
  KvPool layered = loaded.pool(mx::float32);
  for (const StepArrays& step : steps()) {
    auto mine = fused.layers();
    auto theirs = layered.layers();
    const mx::array whole = loaded.decoder().forward(step, mine);
    const mx::array parts = loaded.decoder().forward_by_layers(step, theirs);
    ASSERT_EQ(whole.shape(), parts.shape());

    const auto found = evaluate(whole, fused, mine);
    const auto expected = evaluate(parts, layered, theirs);
    if (std::string_view(GetParam()).starts_with("gemma2")) {
      // MLX's tanh, which caps its logits, is another than ours.
      EXPECT_THAT(found, Pointwise(FewStepsApart(), expected));
    } else {
      EXPECT_EQ(found, expected);
    }
  }
}

TEST_P(FusedStep, PoolsOfHalfPrecisionStayNearFloat32) {
  const Loaded loaded = load(GetParam());
  ASSERT_EQ(loaded.model->shape().kv_dtype, mx::float16);
  KvPool halves = loaded.pool(mx::float16);
  KvPool floats = loaded.pool(mx::float32);
  float far = 0;
  for (const StepArrays& step : steps()) {
    auto mine = halves.layers();
    auto theirs = floats.layers();
    const mx::array narrow = loaded.decoder().forward(step, mine);
    const mx::array wide = loaded.decoder().forward(step, theirs);
    const auto found = evaluate(narrow, halves, mine);
    const auto expected = evaluate(wide, floats, theirs);
    for (std::size_t i = 0; i < found.size(); ++i) {
      far = std::max(far,
                     std::abs(std::bit_cast<float>(found[i]) - std::bit_cast<float>(expected[i])));
    }
  }
  EXPECT_LT(far, 0.02F);
  EXPECT_GT(far, 0.0F);
}

// R-ENG-2
TEST_P(FusedStep, BitsDoNotDependOnTheNumberOfThreads) {
  const Loaded loaded = load(GetParam());
  std::vector<std::vector<std::uint32_t>> first;
  for (const int threads : {1, 2, 5}) {
    set_compute_threads(threads);
    KvPool pool = loaded.pool(loaded.model->shape().kv_dtype);
    std::vector<std::vector<std::uint32_t>> all;
    for (const StepArrays& step : steps()) {
      auto layers = pool.layers();
      const mx::array logits = loaded.decoder().forward(step, layers);
      all.push_back(evaluate(logits, pool, layers));
    }
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << threads;
  }
  set_compute_threads(0);
}

INSTANTIATE_TEST_SUITE_P(Families,
                         FusedStep,
                         testing::Values("llama_q4",
                                         "llama_q8",
                                         "llama_f32",
                                         "llama_neighbours_f32",
                                         "llama3_q4",
                                         "qwen2_q4",
                                         "qwen2_bf16",
                                         "qwen3_q8",
                                         "qwen3_yarn_f32",
                                         "wide_mixed",
                                         "gemma2_q4",
                                         "gemma3_bf16"),
                         [](const auto& test) { return std::string(test.param); });

TEST(FusedStepMake, ExpertsAndDenseFloatsKeepTheLayersOwnOperations) {
  EXPECT_FALSE(load("qwen3_moe_q4").decoder().fused());
  EXPECT_FALSE(load("llama_f32", false).decoder().fused());
}

}  // namespace
}  // namespace mlxs::engine
