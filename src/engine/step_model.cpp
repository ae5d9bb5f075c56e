#include "engine/step_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace mlxs::engine {
namespace {

constexpr double kFade = 0.986;     // half in 50 steps
constexpr double kReadUnit = 1000;  // positions, so that features are of like size
constexpr double kExcessMax = 4;
// A step above what was said raises it by 19 parts in 400, one below lowers it by one: so that one
// in twenty is above.
constexpr double kExcessStep = 0.05;
constexpr double kBelow = 0.95;
// What is not yet known is put down to tokens: a step of its own and the positions read count as
// nothing until steps differ enough to tell.
constexpr std::array<double, 3> kDoubt{1e-2, 1e-6, 1e-2};

}  // namespace

void StepModel::add(const Step& step, double seconds) {
  double reads = 0;
  for (const Segment& segment : step.segments)
    reads += segment.q_len * (segment.kv_len - (segment.q_len - 1) / 2.0);
  const auto tokens = static_cast<double>(step.tokens.size());
  const Vector features{1, tokens, reads / kReadUnit};

  const double fitted =
      cost_.step_seconds + tokens * cost_.token_seconds + reads * cost_.read_seconds;
  if (fitted > 0) {
    excess_ *= 1 + kExcessStep * (seconds > fitted ? kBelow : kBelow - 1);
    excess_ = std::clamp(excess_, 1.0, kExcessMax);
  }
  for (std::size_t i = 0; i < kParts; ++i) {
    for (std::size_t j = 0; j < kParts; ++j)
      products_[i][j] = products_[i][j] * kFade + features[i] * features[j];
    answers_[i] = answers_[i] * kFade + features[i] * seconds;
  }
  const Vector parts = fit();
  cost_ = {.step_seconds = parts[0] * excess_,
           .token_seconds = parts[1] * excess_,
           .read_seconds = parts[2] * excess_ / kReadUnit};
  const double least = seconds / tokens;
  token_seconds_least_ = std::min(token_seconds_least_.value_or(least), least);
}

/// Of all subsets of parts whose fit is nowhere negative, the one that fits best.
StepModel::Vector StepModel::fit() const {
  Vector best{};
  double best_error = std::numeric_limits<double>::infinity();
  for (unsigned subset = 1; subset < 1u << kParts; ++subset) {
    // Gaussian elimination on the subset's equations; those left out become x = 0.
    std::array<std::array<double, kParts + 1>, kParts> rows{};
    for (std::size_t i = 0; i < kParts; ++i) {
      if ((subset >> i & 1) == 0) {
        rows[i][i] = 1;
        continue;
      }
      for (std::size_t j = 0; j < kParts; ++j)
        if ((subset >> j & 1) != 0) rows[i][j] = products_[i][j];
      rows[i][i] += products_[i][i] * kDoubt[i];
      rows[i][kParts] = answers_[i];
    }
    for (std::size_t i = 0; i < kParts; ++i)
      for (std::size_t below = i + 1; below < kParts; ++below) {
        const double factor = rows[below][i] / rows[i][i];
        for (std::size_t j = i; j <= kParts; ++j) rows[below][j] -= factor * rows[i][j];
      }
    Vector parts{};
    for (std::size_t i = kParts; i-- > 0;) {
      parts[i] = rows[i][kParts];
      for (std::size_t j = i + 1; j < kParts; ++j) parts[i] -= rows[i][j] * parts[j];
      parts[i] /= rows[i][i];
    }
    if (std::ranges::any_of(parts, [](double part) { return !(part >= 0); })) continue;
    // The sum of squared errors, less what is the same for all.
    double error = 0;
    for (std::size_t i = 0; i < kParts; ++i) {
      error += parts[i] * parts[i] * products_[i][i] * kDoubt[i] - 2 * parts[i] * answers_[i];
      for (std::size_t j = 0; j < kParts; ++j) error += parts[i] * parts[j] * products_[i][j];
    }
    if (error >= best_error) continue;
    best_error = error;
    best = parts;
  }
  return best;
}

}  // namespace mlxs::engine
