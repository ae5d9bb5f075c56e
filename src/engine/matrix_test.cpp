// R-ENG-8: everything on together, through the real model: batching × prefix cache × seeds ×
// logprobs × stop strings × n × penalties. Every answer is the one it gets alone.
#include "engine/detokenizer.h"
#include "engine/engine.h"
#include "engine/model_runner.h"
#include "engine/runner.h"
#include "engine/testing/event_log.h"
#include "engine/testing/noisy_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr int kVocabulary = 128;
// Two orders of adding float32 move this model's logits by up to 2e-5 (tests/golden/models).
constexpr float kEpsilon = 1e-4f;
constexpr int kNoises = 64;

/// A letter for each token, so that stop strings are found.
class Letters final : public Detokenizer {
 public:
  Result<std::string> push(TokenId id) override {
    return std::string(1, static_cast<char>('a' + id % 26));
  }
  Result<std::string> finish() override { return std::string{}; }
};

class Bench {
 public:
  Bench(const char* model, int sequences, bool prefix_cache) {
    EngineLimits limits;
    limits.sequences_max = sequences;
    limits.waiting_max = 1000;
    limits.prefix_cache = prefix_cache;
    limits.step_tokens_max = 64;  // Less than a prompt may have: several chunks.
    engine_ = Engine::start(
                  [&]() -> Result<std::unique_ptr<Runner>> {
                    ModelOptions options;
                    options.source =
                        std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models" / model;
                    options.compute = Compute::kFloat32;
                    options.kv_bytes = std::uint64_t{1} << 20;
                    options.sequences_max = sequences;
                    auto runner = load_runner(options, {});
                    if (!runner) return runner.error();
                    return std::make_unique<NoisyRunner>(std::move(*runner), noise_, kEpsilon);
                  },
                  [] { return std::make_unique<Letters>(); },
                  limits,
                  log_.sink())
                  .value();
  }

  std::vector<SequenceId> submit(const GenerationRequest& request, int n) {
    std::vector<SequenceId> ids;
    for (int k = 0; k < n; ++k) ids.push_back(SequenceId{++last_});
    EXPECT_TRUE(engine_->submit(ids, request));
    return ids;
  }
  [[nodiscard]] EngineStats stats() const { return engine_->stats(); }
  GenerationEvent finished(SequenceId id) { return log_.finished(id); }
  GenerationEvent alone(const GenerationRequest& request, int noise) {
    noise_ = noise;
    return finished(submit(request, 1).front());
  }

 private:
  std::atomic<int> noise_ = 0;
  EventLog log_;
  std::uint64_t last_ = 0;
  std::unique_ptr<Engine> engine_;  // Last: its thread uses the rest.
};

struct Case {
  GenerationRequest request;
  int n = 1;
};

/// One request for each way to switch the six on and off.
std::vector<Case> matrix() {
  std::mt19937 random{8};
  const auto tokens = [&](std::size_t count) {
    std::vector<TokenId> list(count);
    for (TokenId& token : list) token = static_cast<TokenId>(random() % kVocabulary);
    return list;
  };
  const std::vector<TokenId> shared = tokens(80);
  std::vector<Case> cases;
  for (unsigned on = 0; on < 64; ++on) {
    const auto is_on = [on](unsigned bit) { return (on >> bit & 1) != 0; };
    Case& next = cases.emplace_back();
    GenerationRequest& request = next.request;
    if (is_on(0)) request.prompt = shared;
    const auto own = tokens(3 + random() % 90);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.completion_tokens_max = 24;
    request.ignore_end_tokens = random() % 2 == 0;
    request.sampling.seed = random();
    request.sampling.temperature = is_on(1) ? 0.8f : 0.0f;
    if (is_on(2)) request.top_logprobs = 4;
    if (is_on(3)) request.stop = {"ab", "q"};
    if (is_on(4)) next.n = 3;
    if (!is_on(5)) continue;
    request.min_tokens = 3;
    request.sampling.repetition_penalty = 1.2f;
    request.sampling.frequency_penalty = 0.3f;
    request.sampling.presence_penalty = 0.2f;
    request.sampling.bias = {{5, -100}, {6, 2}};
    request.sampling.dry = {.multiplier = 0.8f};
    request.sampling.xtc_probability = 0.3f;
  }
  std::ranges::shuffle(cases, random);
  return cases;
}

/// Whether logits within kEpsilon of those alone could have given `tokens` up to and including the
/// first that differs.
bool is_near_tie(Bench& alone,
                 const GenerationRequest& request,
                 const std::vector<TokenId>& expected,
                 const std::vector<TokenId>& tokens) {
  const auto differs = std::ranges::mismatch(expected, tokens).in2 - tokens.begin();
  if (differs == std::ssize(tokens)) return false;  // Cut short: no tie does that.
  for (int noise = 1; noise <= kNoises; ++noise) {
    const auto moved = alone.alone(request, noise).token_ids;
    if (std::ssize(moved) > differs &&
        std::equal(tokens.begin(), tokens.begin() + differs + 1, moved.begin()))
      return true;
  }
  return false;
}

class Matrix : public testing::TestWithParam<const char*> {};

TEST_P(Matrix, EveryAnswerIsTheOneItGetsAlone) {
  const std::vector<Case> cases = matrix();
  Bench together{GetParam(), 24, true};
  std::vector<std::vector<SequenceId>> ids;
  for (const Case& given : cases) ids.push_back(together.submit(given.request, given.n));

  // A process has one engine at work (engine/ops/parallel.h).
  std::vector<std::vector<GenerationEvent>> answers;
  for (const auto& choices : ids)
    for (answers.emplace_back(); const SequenceId id : choices)
      answers.back().push_back(together.finished(id));

  Bench alone{GetParam(), 1, false};
  int ties = 0;
  for (std::size_t c = 0; c < cases.size(); ++c)
    for (int k = 0; k < cases[c].n; ++k) {
      GenerationRequest request = cases[c].request;
      request.sampling.choice = static_cast<std::uint32_t>(k);
      const GenerationEvent& answer = answers[c][static_cast<std::size_t>(k)];
      const GenerationEvent expected = alone.alone(request, 0);
      ASSERT_FALSE(answer.error) << answer.error->message;
      if (answer.token_ids != expected.token_ids) {
        ASSERT_TRUE(is_near_tie(alone, request, expected.token_ids, answer.token_ids))
            << "case " << c << " choice " << k;
        ++ties;
        continue;
      }
      EXPECT_EQ(answer.text, expected.text);
      EXPECT_EQ(answer.finish, expected.finish);
      EXPECT_EQ(answer.prompt_tokens, expected.prompt_tokens);
      EXPECT_EQ(answer.completion_tokens, expected.completion_tokens);
      ASSERT_EQ(answer.logprobs.size(), expected.logprobs.size());
      std::string spelled;
      for (std::size_t t = 0; t < answer.logprobs.size(); ++t) {
        spelled += answer.logprobs[t].text;
        EXPECT_NEAR(answer.logprobs[t].logprob, expected.logprobs[t].logprob, kEpsilon);
        ASSERT_EQ(answer.logprobs[t].top.size(), 4U);
        EXPECT_NEAR(
            answer.logprobs[t].top[3].logprob, expected.logprobs[t].top[3].logprob, kEpsilon);
      }
      EXPECT_EQ(spelled, request.top_logprobs ? answer.text : "");
    }
  EXPECT_LE(ties, 3);
  EXPECT_GT(together.stats().prefix_hits, 0U);
}

// The second one's windows are shorter than most prompts.
INSTANTIATE_TEST_SUITE_P(Models, Matrix, testing::Values("llama_f32", "gemma2_f32"));

}  // namespace
}  // namespace mlxs::engine
