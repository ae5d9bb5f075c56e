#pragma once

namespace mlxs::engine {

/// What a step is expected to take: linear in its tokens and in the positions that they attend to.
/// All zero: nothing is known.
struct StepCost {
  double step_seconds = 0;   ///< However little is in it.
  double token_seconds = 0;  ///< For each token.
  double read_seconds = 0;   ///< For each position that a token attends to, itself included.

  /// Of a chunk of `tokens` that begins at position `from`, without the step's own.
  [[nodiscard]] double chunk(double from, double tokens) const {
    return tokens * token_seconds + tokens * (from + (tokens + 1) / 2) * read_seconds;
  }
};

}  // namespace mlxs::engine
