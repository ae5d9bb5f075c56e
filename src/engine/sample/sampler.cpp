#include "engine/sample/sampler.h"

#include "base/assert.h"
#include "engine/sample/philox.h"
#include "engine/sample/row.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlxs::engine {

Result<TokenId> Sampler::sample(std::span<const float> logits,
                                const SamplingParams& params,
                                std::uint64_t position) {
  MLXS_ASSERT(!logits.empty());
  const RowBest best = find_best(logits);
  if (best.broken)
    return fail(ErrorCode::kInternal,
                "[sample] The model's logits are not numbers or all minus infinity.");
  if (params.temperature <= 0) return static_cast<TokenId>(best.index);

  const double uniform = uniform_at(params.seed, params.choice, position);
  // Finite, so that the best one's 0 * scale stays 0 at the smallest temperature.
  const float scale = std::min(1.0f / params.temperature, std::numeric_limits<float>::max());
  const bool top_k = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < logits.size();
  const bool top_p = params.top_p < 1;
  const bool min_p = params.min_p > 0;

  double weight = 0;
  if (top_k) {
    collect_top_k(logits, static_cast<std::size_t>(params.top_k));
    for (Candidate& candidate : candidates_) {
      candidate.weight = exp_negative((candidate.weight - best.value) * scale);
      weight += candidate.weight;
    }
  } else {
    weigh_row(logits, best.value, scale);
    if (!top_p && !min_p) return draw_from_row(uniform);
    weight = row_weight_;
    // All that is lighter than this weighs less than (1 - top_p) together, so top_p cuts before it.
    const double light = (1.0 - params.top_p) * weight / static_cast<double>(logits.size());
    collect_heavy(top_p ? static_cast<float>(0.999 * light) : params.min_p);
  }
  if (top_p) keep_top_p(params.top_p * weight);
  if (min_p)
    std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < params.min_p; });
  return draw_from_candidates(uniform);
}

void Sampler::collect_top_k(std::span<const float> logits, std::size_t k) {
  candidates_.clear();
  float threshold = -std::numeric_limits<float>::infinity();
  for (std::size_t from = 0; from < logits.size(); from += kLanes) {
    const auto lanes = logits.subspan(from, std::min(kLanes, logits.size() - from));
    if (!any_above(lanes, threshold)) continue;
    for (std::size_t j = 0; j < lanes.size(); ++j)
      if (lanes[j] > threshold) candidates_.push_back({lanes[j], static_cast<TokenId>(from + j)});
    if (candidates_.size() < 2 * k + kLanes) continue;
    keep_top_k(k);
    // Ids ascend, so whatever equals the k-th from here on ranks behind it.
    threshold = std::min_element(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) {
                  return a.weight < b.weight;
                })->weight;
  }
  if (candidates_.size() > k) keep_top_k(k);
}

void Sampler::weigh_row(std::span<const float> logits, float best, float scale) {
  weights_.resize(logits.size());
  block_weights_.clear();
  row_weight_ = 0;
  for (std::size_t from = 0; from < logits.size(); from += kBlock) {
    const std::size_t size = std::min(kBlock, logits.size() - from);
    block_weights_.push_back(
        weigh(logits.subspan(from, size), best, scale, {weights_.data() + from, size}));
    row_weight_ += block_weights_.back();
  }
}

void Sampler::collect_heavy(float at_least) {
  candidates_.clear();
  // Just below, since any_above is strict.
  const float below = std::nextafter(at_least, -1.0f);
  const std::span<const float> weights{weights_};
  for (std::size_t from = 0; from < weights.size(); from += kLanes) {
    const auto lanes = weights.subspan(from, std::min(kLanes, weights.size() - from));
    if (!any_above(lanes, below)) continue;
    for (std::size_t j = 0; j < lanes.size(); ++j)
      if (lanes[j] >= at_least) candidates_.push_back({lanes[j], static_cast<TokenId>(from + j)});
  }
}

void Sampler::keep_top_k(std::size_t k) {
  scratch_ = candidates_;
  const auto kth = scratch_.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(scratch_.begin(), kth, scratch_.end(), [](const auto& a, const auto& b) {
    return a.before(b);
  });
  keep_up_to(*kth);
}

void Sampler::keep_top_p(double mass) {
  // Quickselect by weight instead of by rank: finds the candidate at which the running weight, the
  // most probable first, reaches `mass`.
  scratch_ = candidates_;
  auto low = scratch_.begin();
  auto high = scratch_.end();
  const auto before = [](const Candidate& a, const Candidate& b) { return a.before(b); };
  constexpr std::ptrdiff_t kSortBelow = 32;
  while (high - low > kSortBelow) {
    const auto middle = low + (high - low) / 2;
    const Candidate pivot = std::max(std::min(*low, *middle, before),
                                     std::min(std::max(*low, *middle, before), *(high - 1), before),
                                     before);
    const auto cut =
        std::partition(low, high, [&](const Candidate& c) { return !pivot.before(c); });
    double weight = 0;
    for (auto it = low; it != cut; ++it) weight += it->weight;
    if (weight >= mass) {
      high = cut;  // shrinks: a median of three is not the last of them
    } else {
      mass -= weight;
      low = cut;
    }
  }
  std::sort(low, high, before);
  // Rounding may leave a rest that nothing reaches; then all of them stay.
  while (low != high && mass > low->weight) mass -= (low++)->weight;
  if (low != scratch_.end()) keep_up_to(*low);
}

void Sampler::keep_up_to(Candidate last) {
  std::erase_if(candidates_, [&](const Candidate& candidate) { return last.before(candidate); });
}

TokenId Sampler::draw_from_row(double uniform) const {
  double left = uniform * row_weight_;
  std::size_t block = 0;
  for (std::size_t b = 0; b < block_weights_.size(); ++b) {
    if (block_weights_[b] <= 0) continue;
    block = b;  // the last one with weight, should rounding leave a rest
    if (left < block_weights_[b]) break;
    left -= block_weights_[b];
  }
  const std::size_t end = std::min((block + 1) * kBlock, weights_.size());
  std::size_t drawn = end;
  for (std::size_t i = block * kBlock; i < end; ++i) {
    if (weights_[i] <= 0) continue;
    drawn = i;
    if (left < weights_[i]) break;
    left -= weights_[i];
  }
  MLXS_ASSERT(drawn < end);
  return static_cast<TokenId>(drawn);
}

TokenId Sampler::draw_from_candidates(double uniform) const {
  double weight = 0;
  for (const Candidate& candidate : candidates_) weight += candidate.weight;
  double left = uniform * weight;
  TokenId drawn = -1;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight <= 0) continue;
    drawn = candidate.id;
    if (left < candidate.weight) break;
    left -= candidate.weight;
  }
  MLXS_ASSERT(drawn >= 0);
  return drawn;
}

}  // namespace mlxs::engine
