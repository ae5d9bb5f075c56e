#pragma once

#include "base/result.h"
#include "engine/types.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mlxs::engine {

/// Draws tokens from rows of logits. Stateless but for scratch memory: what comes out depends on
/// the arguments alone. One thread at a time.
///
/// With temperature 0: the best logit, the lowest id among equals. Else probabilities are
/// softmax(logits / temperature), and each filter works on what the one before it left:
///   top_k  keeps the k most probable;
///   top_p  keeps the fewest most probable whose share of what is left reaches top_p, at least one;
///   min_p  keeps those at least min_p times as probable as the best;
///   XTC    with probability xtc_probability, of the tokens that are now at least xtc_threshold
///          probable keeps only the least probable one (llama.cpp's rule).
/// Among equally probable ones the lower id counts as more probable, so filters are exact.
/// Nothing sorts the row: vectorised passes over thresholds narrow a cut down to few candidates.
class Sampler {
 public:
  /// Draws the token at `position` from `logits`, one row [vocab_size], not empty. -inf marks a
  /// token that can't come. kInternal when a logit is NaN or +inf, or all are -inf: the model's
  /// arithmetic went wrong.
  [[nodiscard]] Result<TokenId> sample(std::span<const float> logits,
                                       const SamplingParams& params,
                                       std::uint64_t position);

  /// The logprob of `token` and the `top` most probable ones, fewer where fewer can come. `logits`
  /// are the model's, [vocab_size], not broken.
  [[nodiscard]] TokenLogprob logprob(std::span<const float> logits, TokenId token, int top);

 private:
  struct Candidate {
    float weight;  // exp((logit - best) / temperature), in [0, 1]; while top_k selects, the logit
    TokenId id;
    [[nodiscard]] bool before(const Candidate& other) const {
      return weight > other.weight || (weight == other.weight && id < other.id);
    }
  };

  void filter_top_k(std::span<const float> logits,
                    const SamplingParams& params,
                    float best,
                    float scale);
  void filter_row(std::span<const float> logits,
                  const SamplingParams& params,
                  float best,
                  float scale);
  void collect_top_k(std::span<const float> logits, std::size_t k);
  void collect_row(float low, float high);
  void cut_candidates_to(std::size_t k);
  void exclude_top_candidates(float threshold);
  void exclude_top_of_row(float threshold);
  [[nodiscard]] Candidate last_within(double mass);
  [[nodiscard]] float cut_row_to(double mass);
  void sum_row(auto&& sum_block);
  [[nodiscard]] TokenId draw_from_row(double uniform) const;
  [[nodiscard]] TokenId draw_from_candidates(double uniform) const;

  std::vector<float> weights_;         // of the whole row
  std::vector<double> block_weights_;  // sums over blocks of them
  double row_weight_ = 0;
  std::vector<Candidate> candidates_;  // by ascending id
  std::vector<Candidate> scratch_;
};

}  // namespace mlxs::engine
