#pragma once

#include "engine/types.h"

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace mlxs::engine {

/// What a sequence's parameters do to its logits before a token is drawn, as far as it follows from
/// the tokens so far: `min_tokens`, logit bias, penalties, DRY (see SamplingParams for the order).
/// Keeps counts of the tokens instead of going over them at each draw; they follow from the tokens
/// alone, so rebuilding them from prompt and generated tokens gives the same. One thread.
class LogitRules {
 public:
  /// `end_tokens` are banned until `min_tokens` were generated.
  struct Minimum {
    int min_tokens = 0;
    std::vector<TokenId> end_tokens;
  };

  /// Null when nothing is to be changed, so that such a sequence pays nothing. Ids of the prompt
  /// and of `minimum` are below the vocabulary's size.
  [[nodiscard]] static std::unique_ptr<LogitRules> make(const SamplingParams& params,
                                                        Minimum minimum,
                                                        std::span<const TokenId> prompt);

  /// The next generated token.
  void add(TokenId token);
  /// `logits` [vocab_size] as they are to be drawn from: in `scratch`, valid until it changes. -inf
  /// marks a banned token; all may be.
  [[nodiscard]] std::span<const float> apply(std::span<const float> logits,
                                             std::vector<float>& scratch) const;

 private:
  LogitRules(const SamplingParams& params, Minimum minimum);
  void apply_bias(std::span<float> row) const;
  void apply_penalties(std::span<float> row) const;
  void apply_dry(std::span<float> row) const;

  const SamplingParams params_;
  const Minimum minimum_;
  bool penalties_ = false;
  bool dry_ = false;
  int generated_ = 0;
  std::unordered_map<TokenId, int> counts_;  // how often generated; 0: in the prompt only
  std::vector<TokenId> history_;             // for DRY only
};

}  // namespace mlxs::engine
