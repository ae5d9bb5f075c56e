// Whole decode steps in kernels of our own, and the layers' own operations on the GPU, against
// float32 on the CPU, through the runner. A prompt longer than a decode step takes goes one way,
// the same prompt in pieces the other. Needs a GPU, and checkpoints made by
// bench/tools/make_checkpoint.py: MLXS_GPU_MODELS lists their folders.

#include "engine/model_runner.h"
#include "engine/step.h"

#include <gtest/gtest.h>
#include <mlx/device.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr int kTokens = 200;  // More than a decode step takes.
constexpr int kRows = 3;

std::vector<std::string> folders() {
  const char* const listed = std::getenv("MLXS_GPU_MODELS");
  std::istringstream words{listed == nullptr ? "" : listed};
  std::vector<std::string> found;
  for (std::string word; words >> word;) found.push_back(word);
  return found;
}

TokenId token_at(int row, int position) { return (row * 37 + position * 11) % 200 + 20; }

/// Adds tokens [from, to) of a row that owns blocks [place · 8, ...), and asks for their logits.
void add(Step& step, int row, int place, int from, int to, int block_tokens) {
  Segment segment{static_cast<int>(step.tokens.size()), to - from, to, {}};
  for (int i = 0; i * block_tokens < to; ++i) segment.blocks.push_back(BlockId{place * 8 + i});
  for (int i = from; i < to; ++i) {
    step.logits_at.push_back(static_cast<int>(step.tokens.size()));
    step.tokens.push_back(token_at(row, i));
  }
  step.segments.push_back(std::move(segment));
}

std::vector<float> run(Runner& runner, const Step& step) {
  const auto logits = runner.run(step);
  EXPECT_TRUE(logits) << logits.error().message;
  return {logits->values.begin(), logits->values.end()};
}

class DecodeStep : public testing::TestWithParam<std::string> {};

using Logits = std::vector<std::vector<float>>;  // By row, all positions.

std::unique_ptr<Runner> load(const std::string& folder, mlx::core::Device device) {
  mlx::core::set_default_device(device);
  ModelOptions options;
  options.source = folder;
  auto runner = load_runner(options, {});
  EXPECT_TRUE(runner) << runner.error().message;
  return runner ? std::move(*runner) : nullptr;
}

Logits whole_prompts(Runner& runner) {
  Logits logits;
  for (int row = 0; row < kRows; ++row) {
    Step step;
    add(step, row, row, 0, kTokens, runner.info().block_tokens);
    logits.push_back(run(runner, step));
  }
  return logits;
}

/// Rows together, in pieces: prompts of different lengths first, then single tokens.
Logits in_pieces(Runner& runner) {
  const auto vocabulary = static_cast<std::ptrdiff_t>(runner.info().vocab_size);
  Logits pieces(kRows);
  std::vector<int> done(kRows, 0);
  const auto advance = [&](const std::vector<int>& counts) {
    Step step;
    std::vector<std::size_t> rows;
    for (int row = 0; row < kRows; ++row) {
      const int count = counts[static_cast<std::size_t>(row)];
      if (count == 0) continue;
      int& at = done[static_cast<std::size_t>(row)];
      add(step, row, row, at, at + count, runner.info().block_tokens);
      at += count;
      rows.insert(rows.end(), static_cast<std::size_t>(count), static_cast<std::size_t>(row));
    }
    const std::vector<float> logits = run(runner, step);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto first = logits.begin() + static_cast<std::ptrdiff_t>(i) * vocabulary;
      pieces[rows[i]].insert(pieces[rows[i]].end(), first, first + vocabulary);
    }
  };
  advance({100, 0, 5});
  advance({1, 90, 30});
  advance({1, 0, 1});
  advance({1, 7, 64});
  while (std::ranges::min(done) < kTokens) {
    std::vector<int> counts;
    for (const int at : done) counts.push_back(std::min(kTokens - at, at > 180 ? 1 : 9));
    advance(counts);
  }
  return pieces;
}

/// How far `ours` is from `reference`: the root mean square of differences over that of logits, and
/// the share of positions with the same best token.
struct Distance {
  double relative = 0;
  double agreement = 0;
};
Distance distance(const Logits& ours, const Logits& reference) {
  double differences = 0;
  double squares = 0;
  int agree = 0;
  for (std::size_t row = 0; row < reference.size(); ++row) {
    for (std::size_t i = 0; i < reference[row].size(); ++i) {
      const double difference = static_cast<double>(ours[row][i]) - reference[row][i];
      differences += difference * difference;
      squares += static_cast<double>(reference[row][i]) * reference[row][i];
    }
    const auto vocabulary = static_cast<std::ptrdiff_t>(reference[row].size() / kTokens);
    for (int t = 0; t < kTokens; ++t) {
      const auto best = [&](const std::vector<float>& logits) {
        const auto first = logits.begin() + t * vocabulary;
        return std::max_element(first, first + vocabulary) - first;
      };
      agree += best(ours[row]) == best(reference[row]) ? 1 : 0;
    }
  }
  return {std::sqrt(differences / squares), static_cast<double>(agree) / (kRows * kTokens)};
}

TEST_P(DecodeStep, IsAsCloseToFloat32AsPlainOperations) {
  const auto cpu = load(GetParam(), mlx::core::Device::cpu);
  ASSERT_TRUE(cpu);
  const Logits reference = whole_prompts(*cpu);
  const auto gpu = load(GetParam(), mlx::core::Device::gpu);
  ASSERT_TRUE(gpu);
  const Distance plain = distance(whole_prompts(*gpu), reference);
  const Distance ours = distance(in_pieces(*gpu), reference);
  std::printf("%s: relative error %.4f (plain operations %.4f), best token equal %.4f (%.4f)\n",
              GetParam().c_str(),
              ours.relative,
              plain.relative,
              ours.agreement,
              plain.agreement);
  EXPECT_LT(ours.relative, 0.1);
  EXPECT_LT(ours.relative, 1.2 * plain.relative + 0.01);
  EXPECT_GT(ours.agreement, plain.agreement - 0.02);
}

INSTANTIATE_TEST_SUITE_P(Models, DecodeStep, testing::ValuesIn(folders()), [](const auto& one) {
  return "checkpoint" + std::to_string(one.index);
});
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DecodeStep);

}  // namespace
}  // namespace mlxs::engine
