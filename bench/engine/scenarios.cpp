#include "bench/engine/scenarios.h"

#include "bench/engine/collector.h"

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace mlxs::bench {
namespace {

namespace json = boost::json;

constexpr int kPrefills = 3;
constexpr int kTokensBefore = 16;  ///< Of each row before the long prompt joins.
constexpr int kShortTokens = 32;
constexpr int kShortAnswer = 16;
constexpr std::size_t kTokensShown = 16;

/// The same ids as mlx_lm_run.py's. No two rows begin alike, so nothing is found in a cache.
std::vector<engine::TokenId> prompt_of(int row, int tokens) {
  std::vector<engine::TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(100 + (row * 131 + i * 17 + i * i % 97) % 1900);
  return prompt;
}

double ms(Moment from, Moment to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

/// Nearest rank; 0 when empty.
double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(1.0, rank)) - 1];
}

void add_times(json::object& result, const std::string& name, const std::vector<double>& times) {
  result[name + "_p50"] = quantile(times, 0.5);
  result[name + "_p95"] = quantile(times, 0.95);
  result[name + "_p99"] = quantile(times, 0.99);
  result[name + "_max"] = quantile(times, 1);
}

/// Gaps between the tokens of each track that end in (from, to].
std::vector<double> gaps(const std::vector<Track>& tracks, Moment from, Moment to) {
  std::vector<double> result;
  for (const Track& track : tracks)
    for (std::size_t i = 1; i < track.token_times.size(); ++i)
      if (track.token_times[i] > from && track.token_times[i] <= to)
        result.push_back(ms(track.token_times[i - 1], track.token_times[i]));
  return result;
}

engine::EngineLimits limits_for(const ScenarioOptions& options, int rows) {
  engine::EngineLimits limits;
  limits.sequences_max = std::max(rows, limits.sequences_max);
  limits.latency_budget = Milliseconds{options.latency_budget_ms};
  if (options.step_tokens > 0) limits.step_tokens_max = options.step_tokens;
  return limits;
}

/// What prefilling `prompts` takes when nothing else is there; `collector` is at rest.
double alone_ms(Collector& collector, const std::vector<std::vector<engine::TokenId>>& prompts) {
  const Moment begin = std::chrono::steady_clock::now();
  std::vector<engine::SequenceId> ids;
  for (const auto& prompt : prompts) ids.push_back(collector.submit(prompt, 1));
  collector.wait([&](const auto& tracks) {
    return std::ranges::all_of(ids, [&](auto id) { return tracks.at(id).finished; });
  });
  return ms(begin, std::chrono::steady_clock::now());
}

json::object ceiling(const char* what, double found, double at_most) {
  return {{"what", what}, {"ms", found}, {"ceiling_ms", at_most}};
}

/// Of what prefilling alone takes: prompts get at least a quarter of the time (decision 12).
constexpr double kFirstTokenCeiling = 4;
constexpr int kAloneRows = 1000;  ///< Prompts from this row on begin like no others.

bool all_have(const Collector::Tracks& tracks, std::size_t tokens) {
  return std::ranges::all_of(
      tracks, [tokens](const auto& entry) { return entry.second.tokens.size() >= tokens; });
}

}  // namespace

json::object decode(const ScenarioOptions& options) {
  // Nobody is kept waiting while the prompts come: a budget would let the first rows end before the
  // last ones begin.
  engine::EngineLimits limits = limits_for(options, options.rows);
  limits.latency_budget = Milliseconds{0};
  Collector collector{options.source, limits};
  for (int row = 0; row < options.rows; ++row)
    collector.submit(prompt_of(row, options.prompt_tokens), options.answer_tokens);
  collector.wait([](const auto& tracks) {
    return std::ranges::all_of(tracks, [](const auto& entry) { return entry.second.finished; });
  });

  Moment from{};
  Moment to = Moment::max();
  json::array tokens;
  for (const auto& [id, track] : collector.tracks()) {
    from = std::max(from, track.token_times.front());
    to = std::min(to, track.token_times.back());
    const std::size_t shown = std::min(kTokensShown, track.tokens.size());
    tokens.emplace_back(json::array(track.tokens.begin(),
                                    track.tokens.begin() + static_cast<std::ptrdiff_t>(shown)));
  }
  if (from >= to) {
    fmt::print(stderr, "A row ended before the last one began: longer answers are needed.\n");
    std::exit(1);
  }
  double drawn = 0;
  for (const auto& [id, track] : collector.tracks())
    drawn += static_cast<double>(
        std::ranges::count_if(track.token_times, [&](Moment at) { return at > from && at <= to; }));
  std::vector<double> steps;
  Moment previous = from;
  for (const Moment at : collector.steps()) {
    if (at > from && at <= to) steps.push_back(ms(previous, at));
    if (at > from) previous = at;
  }
  json::object result;
  result["tokens_per_s"] = drawn / ms(from, to) * 1e3;
  add_times(result, "step_ms", steps);
  result["tokens"] = std::move(tokens);
  return result;
}

json::object prefill(const ScenarioOptions& options) {
  Collector collector{options.source, limits_for(options, 1)};
  std::vector<double> times;
  for (int i = 0; i <= kPrefills; ++i) {
    const auto id = collector.submit(prompt_of(i, options.prompt_tokens), 1);
    collector.wait([id](const auto& tracks) { return tracks.at(id).finished; });
    const Track track = collector.tracks().at(id);
    if (i > 0) times.push_back(ms(track.submitted, track.token_times.front()));  // First: warm-up.
  }
  json::object result;
  result["first_token_ms"] = quantile(times, 0.5);
  result["tokens_per_s"] = options.prompt_tokens / quantile(times, 0.5) * 1e3;
  return result;
}

json::object joins(const ScenarioOptions& options) {
  Collector collector{options.source, limits_for(options, options.rows + 1)};
  for (int row = 0; row < options.rows; ++row)
    collector.submit(prompt_of(row, options.prompt_tokens), 3000);
  collector.wait([](const auto& tracks) { return all_have(tracks, 2); });
  const Moment begin = std::chrono::steady_clock::now();
  collector.wait([](const auto& tracks) { return all_have(tracks, 2 + kTokensBefore); });
  const auto late = collector.submit(prompt_of(options.rows, options.long_tokens), 3000);
  collector.wait([late](const auto& tracks) { return !tracks.at(late).tokens.empty(); });
  collector.cancel_all();
  auto tracks = collector.tracks();
  const double alone = alone_ms(collector, {prompt_of(kAloneRows, options.long_tokens)});

  const Track joined = tracks.at(late);
  tracks.erase(late);
  std::vector<Track> rows;
  for (auto& [id, track] : tracks) rows.push_back(std::move(track));
  const Moment first = joined.token_times.front();
  const auto during = gaps(rows, joined.submitted, first);
  json::object result;
  result["first_token_ms"] = ms(joined.submitted, first);
  add_times(result, "gap_ms_before", gaps(rows, begin, joined.submitted));
  add_times(result, "gap_ms", during);
  result["rows_tokens_per_s"] =
      static_cast<double>(during.size()) / ms(joined.submitted, first) * 1e3;
  result["ceilings"] = {ceiling("P95 of a gap meanwhile",
                                quantile(during, 0.95),
                                std::max<double>(options.latency_budget_ms,
                                                 result["gap_ms_before_p95"].as_double() * 4 / 3)),
                        ceiling("first token of the long prompt",
                                result["first_token_ms"].as_double(),
                                kFirstTokenCeiling * alone)};
  return result;
}

json::object behind(const ScenarioOptions& options) {
  Collector collector{options.source, limits_for(options, 1)};
  const auto longest = collector.submit(prompt_of(0, options.long_tokens), kShortAnswer);
  for (int i = 1; i <= options.short_prompts; ++i)
    collector.submit(prompt_of(i, kShortTokens), kShortAnswer);
  collector.wait([](const auto& tracks) {
    return std::ranges::all_of(tracks, [](const auto& entry) { return entry.second.finished; });
  });

  const auto tracks = collector.tracks();
  std::vector<std::vector<engine::TokenId>> again{prompt_of(kAloneRows, options.long_tokens)};
  for (int i = 1; i <= options.short_prompts; ++i)
    again.push_back(prompt_of(kAloneRows + i, kShortTokens));
  const double alone = alone_ms(collector, again);

  std::vector<double> first;
  Moment begin = Moment::max();
  Moment end{};
  json::object result;
  for (const auto& [id, track] : tracks) {
    begin = std::min(begin, track.submitted);
    end = std::max(end, track.token_times.back());
    const double time = ms(track.submitted, track.token_times.front());
    if (id == longest)
      result["long_first_token_ms"] = time;
    else
      first.push_back(time);
  }
  add_times(result, "first_token_ms", first);
  result["ceilings"] = {ceiling("first token of the last short prompt",
                                result["first_token_ms_max"].as_double(),
                                kFirstTokenCeiling * alone),
                        ceiling("first token of the long prompt",
                                result["long_first_token_ms"].as_double(),
                                kFirstTokenCeiling * alone)};
  result["all_done_ms"] = ms(begin, end);
  return result;
}

}  // namespace mlxs::bench
