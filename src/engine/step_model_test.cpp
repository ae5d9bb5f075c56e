#include "engine/step_model.h"

#include <gtest/gtest.h>

#include <random>

namespace mlxs::engine {
namespace {

/// A step of `rows` decode rows with `kv_len` positions each, and a chunk of a prompt.
Step step_of(int rows, int kv_len, int chunk, int chunk_from) {
  Step step;
  for (int k = 0; k < rows; ++k)
    step.segments.push_back({.q_start = k, .q_len = 1, .kv_len = kv_len, .blocks = {}});
  if (chunk > 0)
    step.segments.push_back(
        {.q_start = rows, .q_len = chunk, .kv_len = chunk_from + chunk, .blocks = {}});
  step.tokens.resize(static_cast<std::size_t>(rows + chunk));
  return step;
}

constexpr StepCost kTrue{.step_seconds = 4e-3, .token_seconds = 2e-4, .read_seconds = 5e-8};

double seconds_of(const Step& step) {
  double seconds = kTrue.step_seconds;
  for (const Segment& segment : step.segments)
    seconds += kTrue.chunk(segment.kv_len - segment.q_len, segment.q_len);
  return seconds;
}

double predicted(const StepModel& model, const Step& step) {
  double seconds = model.cost().step_seconds;
  for (const Segment& segment : step.segments)
    seconds += model.cost().chunk(segment.kv_len - segment.q_len, segment.q_len);
  return seconds;
}

TEST(StepModel, KnowsNothingAtFirst) {
  const StepModel model;

  EXPECT_EQ(model.cost().token_seconds, 0);
  EXPECT_EQ(model.token_seconds_least(), 0);
}

TEST(StepModel, PutsAFirstStepDownToItsTokens) {
  StepModel model;

  model.add(step_of(0, 0, 500, 0), 0.5);

  EXPECT_NEAR(model.cost().token_seconds, 1e-3, 2e-4);
  EXPECT_NEAR(model.token_seconds_least(), 5e-4, 1e-6);
}

TEST(StepModel, PredictsStepsThatItHasNotSeen) {
  StepModel model;
  std::mt19937 random{1};
  for (int k = 0; k < 200; ++k) {
    const Step step = step_of(static_cast<int>(random() % 32),
                              static_cast<int>(100 + random() % 2000),
                              static_cast<int>(1 + random() % 200),
                              static_cast<int>(random() % 4000));
    const double noise = 0.95 + static_cast<double>(random() % 100) / 1000;
    model.add(step, seconds_of(step) * noise);
  }

  for (const Step& step : {step_of(32, 500, 0, 0), step_of(16, 1000, 512, 8000)}) {
    EXPECT_GT(predicted(model, step), 0.9 * seconds_of(step));
    EXPECT_LT(predicted(model, step), 1.4 * seconds_of(step));
  }
}

TEST(StepModel, SaysWhatNineteenStepsInTwentyKeep) {
  StepModel model;
  std::mt19937 random{2};
  std::lognormal_distribution<double> noise{0, 0.15};
  const Step step = step_of(16, 300, 60, 0);
  const auto add = [&] {
    const double seconds = seconds_of(step) * noise(random);
    const bool above = seconds > predicted(model, step);
    model.add(step, seconds);
    return above;
  };
  for (int k = 0; k < 300; ++k) add();

  int above = 0;
  for (int k = 0; k < 1000; ++k) above += add() ? 1 : 0;

  EXPECT_GT(above, 20);
  EXPECT_LT(above, 80);
}

TEST(StepModel, FollowsAMachineThatBecomesSlower) {
  StepModel model;
  const Step step = step_of(8, 100, 100, 0);
  for (int k = 0; k < 100; ++k) model.add(step, 0.01);
  for (int k = 0; k < 20; ++k) model.add(step, 0.03);

  EXPECT_GT(predicted(model, step), 0.02);
  EXPECT_LT(predicted(model, step), 0.06);
}

}  // namespace
}  // namespace mlxs::engine
