#include "engine/sample/logit_rules.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr float kBan = -100.0f;    // OpenAI: "a ban ...
constexpr float kSelect = 100.0f;  // ... or exclusive selection of the relevant token"

float& at(std::span<float> row, TokenId token) { return row[static_cast<std::size_t>(token)]; }

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.frequency_penalty != 0 ||
         params.presence_penalty != 0;
}

bool has_dry(const DryParams& dry) {
  return dry.multiplier != 0 && dry.base >= 1 && dry.last_n != 0;
}

/// lengths[k]: how many of the latest tokens equal those that end k tokens earlier, for k >= 1. The
/// Z function of the reversed history (Gusfield 1997).
std::vector<std::size_t> repeat_lengths(std::span<const TokenId> history) {
  const std::size_t size = history.size();
  const auto back = [&](std::size_t k) { return history[size - 1 - k]; };
  std::vector<std::size_t> lengths(size, 0);
  std::size_t left = 0;
  std::size_t right = 0;  // [left, right) equals the beginning
  for (std::size_t k = 1; k < size; ++k) {
    std::size_t& length = lengths[k];
    if (k < right) length = std::min(right - k, lengths[k - left]);
    while (k + length < size && back(length) == back(k + length)) ++length;
    if (k + length > right) {
      left = k;
      right = k + length;
    }
  }
  return lengths;
}

}  // namespace

LogitRules::LogitRules(const SamplingParams& params, Minimum minimum)
    : params_{params}, minimum_{std::move(minimum)} {}

std::unique_ptr<LogitRules> LogitRules::make(const SamplingParams& params,
                                             Minimum minimum,
                                             std::span<const TokenId> prompt) {
  const bool penalties = has_penalties(params);
  const bool dry = has_dry(params.dry);
  if (!penalties && !dry && params.bias.empty() && minimum.min_tokens <= 0) return nullptr;
  std::unique_ptr<LogitRules> rules{new LogitRules{params, std::move(minimum)}};
  rules->penalties_ = penalties;
  rules->dry_ = dry;
  if (params.repetition_penalty != 1)
    for (const TokenId token : prompt) rules->counts_.try_emplace(token, 0);
  if (dry) rules->history_.assign(prompt.begin(), prompt.end());
  return rules;
}

void LogitRules::add(TokenId token) {
  ++generated_;
  if (penalties_) ++counts_[token];
  if (dry_) history_.push_back(token);
}

std::span<const float> LogitRules::apply(std::span<const float> logits,
                                         std::vector<float>& scratch) const {
  scratch.assign(logits.begin(), logits.end());
  const std::span<float> row{scratch};
  if (generated_ < minimum_.min_tokens)
    for (const TokenId token : minimum_.end_tokens) at(row, token) = kBanned;
  if (!params_.bias.empty()) apply_bias(row);
  if (penalties_) apply_penalties(row);
  if (dry_) apply_dry(row);
  return row;
}

void LogitRules::apply_bias(std::span<float> row) const {
  const auto selects = [](const LogitBias& entry) { return entry.bias >= kSelect; };
  if (std::ranges::any_of(params_.bias, selects)) {
    std::vector<LogitBias> selected;
    for (const LogitBias& entry : params_.bias)
      if (selects(entry)) selected.push_back({entry.token, at(row, entry.token)});
    std::ranges::fill(row, kBanned);
    for (const auto& [token, logit] : selected) at(row, token) = logit;
    return;
  }
  for (const auto& [token, bias] : params_.bias) {
    float& logit = at(row, token);
    logit = bias <= kBan ? kBanned : logit + bias;
  }
}

void LogitRules::apply_penalties(std::span<float> row) const {
  for (const auto& [token, generated] : counts_) {
    float& logit = at(row, token);
    // Keskar et al., arXiv:1909.05858, as transformers has it.
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (generated == 0) continue;
    logit -= params_.frequency_penalty * static_cast<float>(generated) + params_.presence_penalty;
  }
}

void LogitRules::apply_dry(std::span<float> row) const {
  const DryParams& dry = params_.dry;
  std::span<const TokenId> history{history_};
  if (dry.last_n > 0 && history.size() > static_cast<std::size_t>(dry.last_n))
    history = history.last(static_cast<std::size_t>(dry.last_n));
  const auto allowed = static_cast<std::size_t>(dry.allowed_length);
  if (history.size() <= allowed) return;

  std::size_t length_max = history.size();
  if (dry.breakers != nullptr) {
    const auto breaks = [&](TokenId token) {
      return std::ranges::binary_search(*dry.breakers, token);
    };
    const auto last = std::ranges::find_if(history.rbegin(), history.rend(), breaks);
    length_max = static_cast<std::size_t>(last - history.rbegin());
  }
  if (length_max < allowed) return;

  std::unordered_map<TokenId, std::size_t> longest;  // that the token would continue
  const auto lengths = repeat_lengths(history);
  for (std::size_t k = 1; k < history.size(); ++k) {
    const std::size_t length = std::min(lengths[k], length_max);
    if (length < allowed) continue;
    std::size_t& most = longest[history[history.size() - k]];
    most = std::max(most, length);
  }
  for (const auto& [token, length] : longest) {
    const float power = std::pow(dry.base, static_cast<float>(length - allowed));
    // A long repetition's penalty is beyond float; subtracting it must not ban what is left alone.
    const float penalty = std::min(dry.multiplier * power, std::numeric_limits<float>::max() / 4);
    at(row, token) -= penalty;
  }
}

}  // namespace mlxs::engine
