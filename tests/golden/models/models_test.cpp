// R-ENG-1 and R-ENG-2 for every architecture, on the small random checkpoints that make.py wrote.

#include "engine/kv/pool.h"
#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"
#include "engine/load/mapped_file.h"
#include "engine/load/safetensors.h"
#include "engine/load/weights.h"
#include "engine/model_runner.h"
#include "engine/models/model.h"

#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine::golden {
namespace {

// Logits reach 7 here; float32 sums in another order differ by some 1e-6 of that a layer. 4- and
// 8-bit weights are widened by the reference in another order, scale·q + bias rounded once or
// twice.
constexpr float kParity = 1e-4f;
// The same kernels on other shapes: only the order of sums differs.
constexpr float kSame = 2e-5f;
// Activations rounded to 1/32512 of the largest of a token, keys and values to half precision.
constexpr float kCodesParity = 2e-2f;

// Of bfloat16 and float16 activations, relative; routers may also choose another expert.
constexpr double kHalf = 0.06;

struct Golden {
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // [tokens × vocab]
};

std::filesystem::path folder_of(const std::string& name) {
  return std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/models" / name;
}

boost::json::object config_of(const std::string& name) {
  const auto file = folder_of(name) / "config.json";
  return parse_json_object(read_small_file(file, 1 << 20).value(), file.string()).value();
}

bool quantised(const boost::json::object& config) { return config.contains("quantization"); }

Golden read_golden(const std::string& name) {
  const auto file = MappedFile::open(folder_of(name) / "expected.safetensors").value();
  Golden golden;
  for (const TensorView& tensor : parse_safetensors(file.bytes(), name).value().tensors) {
    const auto elements = static_cast<std::size_t>(tensor.elements());
    if (tensor.name == "tokens") {
      golden.tokens.resize(elements);
      std::memcpy(golden.tokens.data(), tensor.bytes.data(), tensor.bytes.size());
    } else {
      golden.logits.resize(elements);
      std::memcpy(golden.logits.data(), tensor.bytes.data(), tensor.bytes.size());
    }
  }
  return golden;
}

std::unique_ptr<Runner> load_model(const std::filesystem::path& source,
                                   Compute compute = Compute::kFloat32) {
  ModelOptions options;
  options.source = source;
  options.compute = compute;
  options.kv_bytes = std::uint64_t{4} << 20;
  auto runner = load_runner(options, {});
  if (!runner) throw std::runtime_error(runner.error().message);
  return std::move(*runner);
}

float distance(std::span<const float> a, std::span<const float> b) {
  float worst = a.size() == b.size() ? 0.0f : INFINITY;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    worst = difference <= worst ? worst : difference;  // Not a number counts as far.
  }
  return worst;
}

/// A row of tokens [0, upto) of which [done, upto) are computed in this step.
void add_segment(
    Step& step, const std::vector<TokenId>& tokens, int done, int upto, int first_block) {
  Segment segment{static_cast<int>(step.tokens.size()), upto - done, upto, {}};
  for (int i = 0; i * kBlockTokens < upto; ++i) segment.blocks.push_back(BlockId{first_block + i});
  for (int i = done; i < upto; ++i) {
    step.logits_at.push_back(static_cast<int>(step.tokens.size()));
    step.tokens.push_back(tokens[static_cast<std::size_t>(i)]);
  }
  step.segments.push_back(std::move(segment));
}

std::vector<float> run(Runner& runner, const Step& step) {
  const auto logits = runner.run(step);
  if (!logits) throw std::runtime_error(logits.error().message);
  return {logits->values.begin(), logits->values.end()};
}

class Models : public testing::TestWithParam<std::string> {};

TEST_P(Models, LogitsEqualTheReference) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(folder_of(GetParam()));
  Step step;
  add_segment(step, golden.tokens, 0, static_cast<int>(golden.tokens.size()), 0);

  const std::vector<float> logits = run(*runner, step);

  EXPECT_LT(distance(logits, golden.logits), kParity);
  EXPECT_EQ(runner->info().end_tokens, (std::vector<TokenId>{2, 5}));
}

TEST_P(Models, ChunkedPrefillEqualsWhole) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(folder_of(GetParam()));
  const int count = static_cast<int>(golden.tokens.size());
  Step whole_step;
  add_segment(whole_step, golden.tokens, 0, count, 0);
  const std::vector<float> whole = run(*runner, whole_step);

  for (const int chunk : {1, 5, 16, 31, 33}) {
    std::vector<float> chunked;
    for (int done = 0; done < count; done += chunk) {
      Step step;
      add_segment(step, golden.tokens, done, std::min(count, done + chunk), 2);
      const std::vector<float> part = run(*runner, step);
      chunked.insert(chunked.end(), part.begin(), part.end());
    }
    EXPECT_LT(distance(chunked, whole), kSame) << "chunks of " << chunk;
  }
}

// Random rows at random places of their prompts, some decoding, some prefilling, in one step.
TEST_P(Models, BatchEqualsAlone) {
  const auto runner = load_model(folder_of(GetParam()));
  const int vocab = runner->info().vocab_size;
  std::mt19937 random(11);
  constexpr int kRows = 7;
  constexpr int kWidth = 3;  // Blocks a row.
  std::vector<std::vector<TokenId>> rows(kRows);
  for (auto& row : rows) {
    row.resize(2 + random() % (kWidth * kBlockTokens - 2));
    for (TokenId& token : row) token = static_cast<TokenId>(random() % vocab);
  }
  std::vector<float> alone;
  Step batch;
  for (int i = 0; i < kRows; ++i) {
    const auto& row = rows[i];
    const int count = static_cast<int>(row.size());
    const int done = i % 2 == 0 ? count - 1 : static_cast<int>(random() % count);
    Step before;
    if (done > 0) {
      add_segment(before, row, 0, done, i * kWidth);
      run(*runner, before);
    }
    add_segment(batch, row, done, count, i * kWidth);
    Step single;
    add_segment(single, row, done, count, i * kWidth);
    const std::vector<float> logits = run(*runner, single);
    alone.insert(alone.end(), logits.begin(), logits.end());
  }

  EXPECT_LT(distance(run(*runner, batch), alone), kSame);
}

// R-ENG-2: a row that takes over another's first block continues as if it had computed it.
TEST_P(Models, SharedPrefixEqualsCold) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(folder_of(GetParam()));
  const int count = static_cast<int>(golden.tokens.size());
  Step owner;
  add_segment(owner, golden.tokens, 0, kBlockTokens, 0);
  run(*runner, owner);

  Step step;
  add_segment(step, golden.tokens, kBlockTokens, count, 4);
  step.segments[0].blocks[0] = BlockId{0};
  const std::vector<float> logits = run(*runner, step);

  EXPECT_LT(distance(logits, std::span(golden.logits).last(logits.size())), kParity);
}

std::filesystem::path gguf_folder() {
  return std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/gguf";
}

// The same weights under llama.cpp's names and conventions.
class GgufModels : public testing::TestWithParam<std::string> {};

TEST_P(GgufModels, LogitsEqualTheFolderOnes) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(gguf_folder() / (GetParam() + ".gguf"));
  Step step;
  add_segment(step, golden.tokens, 0, static_cast<int>(golden.tokens.size()), 0);

  EXPECT_LT(distance(run(*runner, step), golden.logits), kParity);
  EXPECT_EQ(runner->info().architecture, config_of(GetParam()).at("model_type").as_string());
}

/// Every operation behind `root`, once, by name.
void collect(const mlx::core::array& root,
             std::set<std::uintptr_t>& seen,
             std::map<std::uintptr_t, std::string>& operations) {
  if (!root.has_primitive() || !seen.insert(root.id()).second) return;
  operations.emplace(root.primitive_id(), root.primitive().name());
  for (const auto& input : root.inputs()) collect(input, seen, operations);
}

/// A checkpoint's model beside a pool for one short row.
struct Loaded {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Model> model;
  std::unique_ptr<KvPool> pool;
};

Loaded load_directly(const std::string& name, const WeightPolicy& policy) {
  Loaded loaded;
  loaded.checkpoint = std::make_unique<Checkpoint>(open_checkpoint(folder_of(name)).value());
  WeightReader weights(*loaded.checkpoint, policy, {});
  loaded.model = make_model(*loaded.checkpoint, weights).value();
  if (const auto finished = weights.finish(); !finished) {
    throw std::runtime_error(finished.error().message);
  }
  const ModelShape& shape = loaded.model->shape();
  loaded.pool = std::make_unique<KvPool>(
      KvPoolShape{std::vector<int>(static_cast<std::size_t>(shape.layers), 4),
                  shape.kv_heads,
                  shape.head_dim,
                  policy.dtype});
  return loaded;
}

/// The logits of all tokens of a row, as a graph.
mlx::core::array build(const Loaded& loaded, const std::vector<TokenId>& tokens) {
  namespace mx = mlx::core;
  const int count = static_cast<int>(tokens.size());
  std::vector<std::int32_t> all(tokens.size());
  std::iota(all.begin(), all.end(), 0);
  const mx::array indices(all.begin(), {count}, mx::int32);
  const std::vector<Segment> segments{{0, count, count, {BlockId{0}, BlockId{1}}}};
  auto layers = loaded.pool->layers();
  return loaded.model->forward(
      {.tokens = mx::array(tokens.begin(), {count}, mx::int32),
       .positions = indices,
       .slots = indices,
       .logits_at = indices,
       .attention = std::make_shared<AttentionPlan>(segments, kBlockTokens)},
      layers);
}

struct Budget {
  const char* name;
  int operations;  ///< A layer, in a decode step of one row on CPU.
};
class OperationsOfALayer : public testing::TestWithParam<Budget> {};

// The host's cost of a step: 4 to 10 µs an operation on a GPU. The table in docs/models.md.
TEST_P(OperationsOfALayer, AreAsManyAsDocumented) {
  const Loaded loaded = load_directly(GetParam().name, {mlx::core::float32, false});

  std::map<std::uintptr_t, std::string> operations;
  std::set<std::uintptr_t> seen;
  const mlx::core::array logits = build(loaded, {1});
  collect(logits, seen, operations);

  // A view costs no work on the device.
  const std::set<std::string> kViews = {
      "Slice", "Reshape", "Transpose", "ExpandDims", "Squeeze", "Flatten", "Broadcast"};
  const auto computing = std::ranges::count_if(
      operations, [&](const auto& operation) { return !kViews.contains(operation.second); });
  // Embedding, choice of rows, last norm and head belong to no layer, nor do what gemma does to its
  // embedding and logits.
  const std::string type(config_of(GetParam().name).at("model_type").as_string());
  const int around = 4 + (type.starts_with("gemma") ? 1 : 0) + (type == "gemma2" ? 3 : 0);
  const int layers = loaded.model->shape().layers;
  std::map<std::string, int> kinds;
  for (const auto& [id, kind] : operations) ++kinds[kind];
  EXPECT_EQ(static_cast<double>(computing - around) / layers, GetParam().operations)
      << testing::PrintToString(kinds);
  const auto page =
      read_small_file(std::filesystem::path(MLXS_SOURCE_DIR) / "docs/models.md", 1 << 20).value();
  EXPECT_NE(page.find(fmt::format("| {} | {} |", type, GetParam().operations)), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         OperationsOfALayer,
                         testing::Values(Budget{"llama_f32", 12},
                                         Budget{"qwen2_f32", 13},
                                         Budget{"qwen3_f32", 12},
                                         Budget{"gemma2_f32", 14},
                                         Budget{"gemma3_f32", 14},
                                         Budget{"qwen3_moe_bf16", 15}),
                         [](const auto& test) { return std::string(test.param.name); });

// In the default mode on CPU.
TEST(OperationsOfAStep, AreOne) {
  const Loaded loaded = load_directly("llama_q4", {.dtype = mlx::core::float32, .pack = true});

  std::map<std::uintptr_t, std::string> operations;
  std::set<std::uintptr_t> seen;
  const mlx::core::array logits = build(loaded, {1});
  collect(logits, seen, operations);

  EXPECT_EQ(operations.size(), 1U) << testing::PrintToString(operations);
}

// The activations' type on a GPU: the checkpoint's own. On CPU, MLX's product with dense experts
// takes float32 only.
class HalfPrecision : public testing::TestWithParam<std::string> {};

TEST_P(HalfPrecision, StaysNearTheReference) {
  namespace mx = mlx::core;
  const Golden golden = read_golden(GetParam());
  const auto checkpoint = open_checkpoint(folder_of(GetParam())).value();
  const auto type = checkpoint.tensors.at("model.norm.weight").type;
  const Loaded loaded =
      load_directly(GetParam(), {type == TensorType::kF16 ? mx::float16 : mx::bfloat16, true});
  mx::array logits = build(loaded, golden.tokens);
  mx::eval(logits);

  double error = 0;
  double total = 0;
  for (std::size_t i = 0; i < golden.logits.size(); ++i) {
    error += std::pow(logits.data<float>()[i] - golden.logits[i], 2);
    total += std::pow(golden.logits[i], 2);
  }
  EXPECT_LT(std::sqrt(error / total), kHalf);
}

std::vector<std::string> cases(bool (*takes)(const boost::json::object&)) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(""))) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && takes(config_of(name))) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}
bool any(const boost::json::object&) { return true; }
bool no_dense_experts(const boost::json::object& config) {
  return !config.contains("num_experts") || quantised(config);
}

std::string case_name(const testing::TestParamInfo<std::string>& test) { return test.param; }
INSTANTIATE_TEST_SUITE_P(Golden, Models, testing::ValuesIn(cases(any)), case_name);
INSTANTIATE_TEST_SUITE_P(Golden,
                         HalfPrecision,
                         testing::ValuesIn(cases(no_dense_experts)),
                         case_name);

TEST(ModelTypes, EachHasAGoldenCase) {
  std::set<std::string> covered;
  for (const std::string& name : cases(any)) {
    covered.emplace(config_of(name).at("model_type").as_string());
  }
  for (const std::string_view type : supported_model_types()) {
    // One maker with gemma3_text; how its files differ is checkpoint_test's business.
    if (type == "gemma3") continue;
    EXPECT_TRUE(covered.contains(std::string(type))) << type;
  }
}

std::vector<std::string> gguf_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(gguf_folder())) {
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Golden, GgufModels, testing::ValuesIn(gguf_cases()), case_name);

// The path for models whose float32 weights would not fit, and for GPUs: quantised products.
class QuantisedModels : public testing::TestWithParam<std::string> {};

TEST_P(QuantisedModels, KeptQuantisedEqualsTheReference) {
  const Golden golden = read_golden(GetParam());
  const Loaded loaded = load_directly(GetParam(), {mlx::core::float32, true});
  mlx::core::array logits = build(loaded, golden.tokens);
  mlx::core::eval(logits);

  EXPECT_LT(distance({logits.data<float>(), logits.size()}, golden.logits), kParity);
}

INSTANTIATE_TEST_SUITE_P(Golden, QuantisedModels, testing::ValuesIn(cases(quantised)), case_name);

// `compute: auto` on CPU: affine weights meet activations of 16 bits.
class DefaultMode : public testing::TestWithParam<std::string> {};

TEST_P(DefaultMode, LogitsAreNearTheReferences) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(folder_of(GetParam()), Compute::kAuto);
  Step step;
  add_segment(step, golden.tokens, 0, static_cast<int>(golden.tokens.size()), 0);

  const float far = distance(run(*runner, step), golden.logits);

  EXPECT_LT(far, kCodesParity);
  EXPECT_GT(far, 0);
}

// No matrix goes through BLAS, whose sums depend on the number of rows.
class AllPacked : public testing::TestWithParam<std::string> {};

// R-ENG-2, bit for bit: a token's logits are the same in any chunk of its prompt, and beside
// others.
TEST_P(AllPacked, ChunksAndBatchesGiveTheSameBits) {
  const Golden golden = read_golden(GetParam());
  const auto runner = load_model(folder_of(GetParam()), Compute::kAuto);
  const int count = static_cast<int>(golden.tokens.size());
  Step whole_step;
  add_segment(whole_step, golden.tokens, 0, count, 0);
  const std::vector<float> whole = run(*runner, whole_step);
  const std::vector<TokenId> other(golden.tokens.rbegin(), golden.tokens.rend());

  for (const int chunk : {1, 5, 16, 33}) {
    std::vector<float> chunked;
    for (int done = 0; done < count; done += chunk) {
      const int upto = std::min(count, done + chunk);
      Step step;
      add_segment(step, golden.tokens, done, upto, 2);
      add_segment(step, other, 0, 9, 4);
      const std::vector<float> part = run(*runner, step);
      const auto own = static_cast<std::ptrdiff_t>(part.size()) / (upto - done + 9) * (upto - done);
      chunked.insert(chunked.end(), part.begin(), part.begin() + own);
    }
    EXPECT_EQ(distance(chunked, whole), 0) << "chunks of " << chunk;
  }
}

bool packed(const boost::json::object& config) {
  const auto* form = config.if_contains("quantization");
  if (form == nullptr || form->at("group_size").to_number<int>() < 32) return false;
  return !form->as_object().contains("mode") || form->at("mode") == "affine";
}
INSTANTIATE_TEST_SUITE_P(Golden, DefaultMode, testing::ValuesIn(cases(packed)), case_name);
INSTANTIATE_TEST_SUITE_P(Golden, AllPacked, testing::ValuesIn(cases(any)), case_name);

}  // namespace
}  // namespace mlxs::engine::golden
