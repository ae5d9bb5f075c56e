#pragma once

#include "engine/schedule/step_cost.h"
#include "engine/step.h"

#include <array>
#include <optional>

namespace mlxs::engine {

/// Learns what steps take from what they took: least squares over the number of tokens and of
/// positions they attend to, in which a step counts half as much every 50 steps. No part comes out
/// negative. All parts are raised so that about one step in twenty takes longer than the cost says
/// (a quantile followed by small steps, after Robbins and Monro), since what is planned with it is
/// promised as a 95th percentile. Not thread-safe.
class StepModel {
 public:
  void add(const Step& step, double seconds);

  /// All zero before the first step.
  [[nodiscard]] const StepCost& cost() const { return cost_; }
  /// A bound no step is expected to beat: half of the least time a token took in any step so far.
  [[nodiscard]] double token_seconds_least() const { return token_seconds_least_.value_or(0) / 2; }

 private:
  static constexpr std::size_t kParts = 3;  // a step's own, tokens, positions attended to
  using Vector = std::array<double, kParts>;

  [[nodiscard]] Vector fit() const;

  std::array<Vector, kParts> products_{};  // of the features with each other, faded
  Vector answers_{};                       // of the features with the seconds, faded
  double excess_ = 1;                      // what raises the fit to the 95th percentile
  StepCost cost_;
  std::optional<double> token_seconds_least_;
};

}  // namespace mlxs::engine
