#include "engine/sample/sampler.h"

#include "base/assert.h"
#include "engine/sample/philox.h"
#include "engine/sample/row.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

namespace mlxs::engine {
namespace {

constexpr auto before = [](const auto& a, const auto& b) { return a.before(b); };

bool xtc_strikes(const SamplingParams& params, std::uint64_t position) {
  return params.xtc_probability > 0 &&
         uniform_at(params.seed, params.choice, position, Purpose::kXtc) < params.xtc_probability;
}

}  // namespace

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
  if (top_k)
    filter_top_k(logits, params, best.value, scale);
  else
    filter_row(logits, params, best.value, scale);
  if (xtc_strikes(params, position)) {
    if (top_k)
      exclude_top_candidates(params.xtc_threshold);
    else
      exclude_top_of_row(params.xtc_threshold);
  }
  return top_k ? draw_from_candidates(uniform) : draw_from_row(uniform);
}

TokenLogprob Sampler::logprob(std::span<const float> logits, TokenId token, int top) {
  const float best = find_best(logits).value;
  weights_.resize(logits.size());
  sum_row([&](std::size_t from, std::span<float> block) {
    return weigh(logits.subspan(from, block.size()), best, 1.0f, block);
  });
  // In double, since two logits of some 20 leave few digits of their difference.
  const double all = best + std::log(row_weight_);
  const auto of = [all](float logit) { return static_cast<float>(logit - all); };
  TokenLogprob found{.token = token, .logprob = of(logits[static_cast<std::size_t>(token)])};
  if (top <= 0) return found;
  collect_top_k(logits, std::min(static_cast<std::size_t>(top), logits.size()));
  std::ranges::sort(candidates_, before);
  for (const Candidate& candidate : candidates_)
    found.top.push_back({candidate.id, of(candidate.weight)});
  return found;
}

void Sampler::filter_top_k(std::span<const float> logits,
                           const SamplingParams& params,
                           float best,
                           float scale) {
  collect_top_k(logits, static_cast<std::size_t>(params.top_k));
  double weight = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = exp_negative((candidate.weight - best) * scale);
    weight += candidate.weight;
  }
  if (params.top_p < 1) {
    const Candidate last = last_within(params.top_p * weight);
    std::erase_if(candidates_, [&](const Candidate& c) { return last.before(c); });
  }
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < params.min_p; });
}

void Sampler::filter_row(std::span<const float> logits,
                         const SamplingParams& params,
                         float best,
                         float scale) {
  weights_.resize(logits.size());
  sum_row([&](std::size_t from, std::span<float> block) {
    return weigh(logits.subspan(from, block.size()), best, scale, block);
  });
  float at_least = params.min_p;
  if (params.top_p < 1) at_least = std::max(at_least, cut_row_to(params.top_p * row_weight_));
  if (at_least > 0)
    sum_row([&](std::size_t, std::span<float> block) { return cut(block, at_least); });
}

/// Leaves of the candidates that have at least `threshold` of the weight only the least.
void Sampler::exclude_top_candidates(float threshold) {
  double weight = 0;
  for (const Candidate& candidate : candidates_) weight += candidate.weight;
  const auto is_top = [at_least = threshold * weight](const Candidate& c) {
    return c.weight > 0 && c.weight >= at_least;
  };
  scratch_.clear();
  std::ranges::copy_if(candidates_, std::back_inserter(scratch_), is_top);
  if (scratch_.size() < 2) return;
  const Candidate last = *std::ranges::max_element(scratch_, before);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.before(last); });
}

void Sampler::exclude_top_of_row(float threshold) {
  // The weights below the row's least positive one are zeros; a threshold of 0 takes all others.
  const float at_least =
      std::max(static_cast<float>(threshold * row_weight_), std::numeric_limits<float>::min());
  collect_row(at_least, std::numeric_limits<float>::infinity());
  if (candidates_.size() < 2) return;
  const Candidate last = *std::ranges::max_element(candidates_, before);
  for (const Candidate& candidate : candidates_)
    if (candidate.before(last)) weights_[static_cast<std::size_t>(candidate.id)] = 0;
  sum_row([&](std::size_t, std::span<float> block) { return cut(block, 0.0f); });
}

void Sampler::sum_row(auto&& sum_block) {
  block_weights_.clear();
  row_weight_ = 0;
  for (std::size_t from = 0; from < weights_.size(); from += kBlock) {
    const std::size_t size = std::min(kBlock, weights_.size() - from);
    block_weights_.push_back(sum_block(from, std::span{weights_}.subspan(from, size)));
    row_weight_ += block_weights_.back();
  }
}

void Sampler::collect_top_k(std::span<const float> logits, std::size_t k) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  candidates_.clear();
  float at_least = std::numeric_limits<float>::lowest();  // masked tokens stay out
  for (std::size_t from = 0; from < logits.size(); from += kLanes) {
    const auto lanes = logits.subspan(from, std::min(kLanes, logits.size() - from));
    if (!any_within(lanes, at_least, kInfinity)) continue;
    for (std::size_t j = 0; j < lanes.size(); ++j)
      if (lanes[j] >= at_least) candidates_.push_back({lanes[j], static_cast<TokenId>(from + j)});
    if (candidates_.size() < 2 * k + kLanes) continue;
    cut_candidates_to(k);
    // Ids ascend, so whatever equals the k-th from here on ranks behind it.
    const auto kth = std::ranges::min_element(candidates_, {}, &Candidate::weight);
    at_least = std::nextafter(kth->weight, kInfinity);
  }
  if (candidates_.size() > k) cut_candidates_to(k);
}

/// The least weight that stays when the most probable tokens up to `mass` do. Zeroes those of this
/// weight that don't, so that cutting the row at it is exact.
float Sampler::cut_row_to(double mass) {
  // The cut lies in [low, high): what is lighter than low weighs less than the rest altogether.
  const double rest = std::max(0.0, row_weight_ - mass);
  float low = static_cast<float>(0.999 * rest / static_cast<double>(weights_.size()));
  low = std::max(low, std::numeric_limits<float>::min());
  float high = std::nextafter(1.0f, 2.0f);
  double above_high = 0;
  double between = row_weight_;  // weight in [low, high)
  constexpr double kFew = 256;
  constexpr int kPassesMax = 3;
  for (int pass = 0; pass < kPassesMax && between / low > kFew; ++pass) {
    const float ratio = std::pow(low / high, 1.0f / static_cast<float>(kThresholds));
    std::array<float, kThresholds> thresholds;
    for (std::size_t c = 0; c < kThresholds; ++c)
      thresholds[c] = high * std::pow(ratio, static_cast<float>(c + 1));
    thresholds.back() = low;
    const auto above = weight_above(weights_, thresholds);
    const auto cut = std::ranges::find_if(above, [&](double weight) { return weight >= mass; });
    const auto c = std::min(static_cast<std::size_t>(cut - above.begin()), kThresholds - 1);
    low = thresholds[c];
    if (c > 0) {
      high = thresholds[c - 1];
      above_high = above[c - 1];
    }
    between = above[c] - above_high;
  }

  collect_row(low, high);
  if (candidates_.empty()) return high;  // rounding: what is above is all there is
  const Candidate last = last_within(mass - above_high);
  for (const Candidate& candidate : candidates_)
    if (candidate.weight == last.weight && candidate.id > last.id)
      weights_[static_cast<std::size_t>(candidate.id)] = 0;
  return last.weight;
}

/// The tokens whose weight is in [low, high), as candidates.
void Sampler::collect_row(float low, float high) {
  candidates_.clear();
  const std::span<const float> weights{weights_};
  for (std::size_t from = 0; from < weights.size(); from += kLanes) {
    const auto lanes = weights.subspan(from, std::min(kLanes, weights.size() - from));
    if (!any_within(lanes, low, high)) continue;
    for (std::size_t j = 0; j < lanes.size(); ++j)
      if (lanes[j] >= low && lanes[j] < high)
        candidates_.push_back({lanes[j], static_cast<TokenId>(from + j)});
  }
}

void Sampler::cut_candidates_to(std::size_t k) {
  scratch_ = candidates_;
  const auto kth = scratch_.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(scratch_.begin(), kth, scratch_.end(), before);
  std::erase_if(candidates_, [last = *kth](const Candidate& c) { return last.before(c); });
}

/// The candidate at which the running weight, the most probable first, reaches `mass`.
Sampler::Candidate Sampler::last_within(double mass) {
  // Quickselect, by weight instead of by rank.
  scratch_ = candidates_;
  auto low = scratch_.begin();
  auto high = scratch_.end();
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
  // Rounding may leave a rest that nothing reaches; then the last of all is the one.
  while (low + 1 < high && mass > low->weight) mass -= (low++)->weight;
  return *low;
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
