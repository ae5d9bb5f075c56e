// R-ENG-2 on the real runner: whatever way a sequence's keys and values came about — in chunks,
// from another's prefix, from the prompt of another choice, again after a preemption, beside other
// rows — its logits are those of one pass over its tokens alone.
#include "engine/kv/block_pool.h"
#include "engine/model_runner.h"
#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr int kVocabulary = 128;
constexpr int kSequences = 24;
// Two orders of adding float32 move these models' logits by up to 2e-5 (tests/golden/models).
constexpr float kEpsilon = 1e-4f;

using Tokens = std::vector<TokenId>;

/// In the default mode every bit is the same (R-ENG-2), in float32 BLAS has orders of its own.
struct Case {
  const char* model;
  Compute compute;
};

std::unique_ptr<Runner> load(const Case& which) {
  ModelOptions options;
  options.source = std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models" / which.model;
  options.compute = which.compute;
  options.kv_bytes = std::uint64_t{4} << 20;
  return load_runner(options, {}).value();
}

/// Logits after `tokens`, from one pass that has the pool for itself.
std::vector<float> logits_alone(Runner& runner, Tokens tokens) {
  Step step;
  const int count = static_cast<int>(tokens.size());
  Segment all{.q_start = 0, .q_len = count, .kv_len = count, .blocks = {}};
  for (int k = 0; k * runner.info().block_tokens < count; ++k) all.blocks.push_back(BlockId{k});
  step.tokens = std::move(tokens);
  step.segments = {std::move(all)};
  step.logits_at = {count - 1};
  const Logits logits = runner.run(step).value();
  return {logits.values.begin(), logits.values.end()};
}

class Laws : public testing::TestWithParam<Case> {};

TEST_P(Laws, HoweverASequenceIsComputedItsLogitsAreThoseItHasAlone) {
  const auto together = load(GetParam());
  const auto alone = load(GetParam());
  const ModelInfo& info = together->info();
  std::mt19937 random{3};
  const auto tokens = [&](int count) {
    Tokens list(static_cast<std::size_t>(count));
    for (TokenId& token : list) token = static_cast<TokenId>(random() % kVocabulary);
    return list;
  };
  const int blocks = std::min(info.blocks_total, 12);  // so few that rows are preempted
  std::vector<KvWindow> windows = info.windows;
  for (KvWindow& window : windows) window.blocks_total = std::min(window.blocks_total, blocks);
  BlockPool pool{blocks};
  Scheduler scheduler{{.sequences_max = 8,
                       .waiting_max = 2 * kSequences,
                       .step_tokens_max = 40,
                       .context_tokens_max = info.context_tokens_max,
                       .block_tokens = info.block_tokens,
                       .blocks_total = blocks,
                       .windows = windows},
                      pool};
  const Tokens shared = tokens(2 * info.block_tokens + 5);
  std::map<SequenceId, Tokens> scripts;  // given, so that no near tie can lead elsewhere
  std::uint64_t last_id = 0;
  for (int k = 0; k < kSequences;) {
    Tokens prompt = random() % 2 == 0 ? shared : Tokens{};
    const Tokens own = tokens(static_cast<int>(1 + random() % 70));
    prompt.insert(prompt.end(), own.begin(), own.end());
    std::vector<SequenceId> choices;
    for (std::uint64_t n = 1 + random() % 3; n > 0; --n, ++k) {
      choices.push_back(SequenceId{++last_id});
      Tokens& script = scripts[choices.back()] = prompt;
      const Tokens answer = tokens(static_cast<int>(2 + random() % 80));
      script.insert(script.end(), answer.begin(), answer.end());
    }
    ASSERT_TRUE(
        scheduler.submit({.choices = choices, .prompt = prompt, .completion_tokens_max = 100}));
  }

  int chunks = 0;
  int mixed = 0;
  int forks = 0;
  std::size_t unseen = 0;
  float worst = 0;
  for (int step = 0; !scheduler.idle(); ++step) {
    ASSERT_LT(step, 2000);
    const StepPlan& plan = scheduler.plan();
    const Logits logits = together->run(plan.step).value();
    chunks += plan.prefill_tokens > 0 && plan.draws.size() < plan.rows.size();
    mixed +=
        plan.prefill_tokens > 0 && plan.prefill_tokens < static_cast<int>(plan.step.tokens.size());
    forks += plan.draws.size() > plan.step.logits_at.size();
    for (const Segment& segment : plan.step.segments)
      for (const std::vector<BlockId>& table : segment.window_blocks)
        unseen += table.size() - std::set<BlockId>{table.begin(), table.end()}.size();
    std::vector<Drawn> drawn;
    for (const Draw& draw : plan.draws) {
      const Tokens& script = scripts.at(draw.sequence);
      const auto row = logits.row(static_cast<std::size_t>(draw.logits_row));
      const std::vector<float> right =
          logits_alone(*alone, {script.begin(), script.begin() + draw.position});
      ASSERT_EQ(row.size(), right.size());
      for (std::size_t v = 0; v < right.size(); ++v)
        worst = std::max(worst, std::abs(row[v] - right[v]));
      ASSERT_LE(worst, GetParam().compute == Compute::kFloat32 ? kEpsilon : 0.0f)
          << "sequence " << static_cast<std::uint64_t>(draw.sequence) << " at " << draw.position
          << " in step " << step;
      const bool last = draw.position + 1 == static_cast<int>(script.size());
      drawn.push_back({.token = script[static_cast<std::size_t>(draw.position)], .ended = last});
    }
    scheduler.commit(drawn);
  }

  // What was to be shown has happened.
  EXPECT_GT(chunks, 0);
  EXPECT_GT(mixed, 0);
  EXPECT_GT(forks, 0);
  EXPECT_EQ(unseen > 0, !windows.empty());  // blocks behind windows were gone
  EXPECT_GT(scheduler.counts().prefix_hits, 0u);
  EXPECT_GT(scheduler.counts().preemptions, 0u);
  EXPECT_GT(scheduler.prefixes().evictions(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Families,
                         Laws,
                         testing::Values(Case{"llama_f32", Compute::kFloat32},
                                         Case{"qwen3_f32", Compute::kFloat32},
                                         Case{"qwen3_moe_f32", Compute::kFloat32},
                                         Case{"gemma2_f32", Compute::kFloat32},
                                         Case{"gemma3_f32", Compute::kFloat32},
                                         Case{"llama_q4", Compute::kAuto},
                                         Case{"qwen2_q8", Compute::kAuto},
                                         Case{"qwen3_bf16", Compute::kAuto},
                                         Case{"qwen3_moe_q4", Compute::kAuto},
                                         Case{"qwen3_moe_bf16", Compute::kAuto},
                                         Case{"gemma2_q4", Compute::kAuto},
                                         Case{"gemma3_q4", Compute::kAuto}),
                         [](const auto& instance) {
                           const bool whole = instance.param.compute == Compute::kFloat32;
                           return std::string{instance.param.model} + (whole ? "" : "_default");
                         });

}  // namespace
}  // namespace mlxs::engine
