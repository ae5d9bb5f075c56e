#include "bench/load/load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>

namespace mlxs::bench {
namespace {

namespace json = boost::json;

/// Three decimals; more would be noise.
double rounded(double value) { return std::round(value * 1e3) / 1e3; }

json::object times(const Histogram& histogram) {
  json::object result;
  result["count"] = histogram.count();
  result["mean_ms"] = rounded(histogram.mean_ms());
  result["min_ms"] = rounded(histogram.min_ms());
  result["p50_ms"] = rounded(histogram.quantile_ms(0.5));
  result["p95_ms"] = rounded(histogram.quantile_ms(0.95));
  result["p99_ms"] = rounded(histogram.quantile_ms(0.99));
  result["max_ms"] = rounded(histogram.max_ms());
  return result;
}

json::object counts(const std::map<std::string, std::uint64_t>& from) {
  json::object result;
  for (const auto& [name, count] : from) result[name] = count;
  return result;
}

double share(double part, double whole) { return whole == 0 ? 0 : part / whole; }

}  // namespace

json::object Load::report() const {
  const double window =
      std::max(std::chrono::duration<double>(window_end_ - window_start_).count(), 1e-9);
  const auto in_window = static_cast<double>(in_window_);
  json::object result;
  result["users"] = options_.users;
  result["rate"] = options_.rate;
  result["duplicates"] = options_.plan.duplicates;
  result["stream"] = options_.plan.stream;
  result["window_s"] = rounded(window);
  result["requests"] = counted_;
  result["distinct_prompts"] = plan_.distinct();
  result["succeeded"] = succeeded_;
  result["left"] = left_;
  result["refused"] = refused_;
  result["wrong_answers"] = wrong_;
  result["failures"] = counts(failures_);
  result["x_mlx_cache"] = counts(sharing_);
  result["requests_per_s"] = rounded(in_window / window);
  result["tokens_per_s"] = rounded(tokens_ / window);
  result["frames_per_s"] = rounded(static_cast<double>(frames_) / window);
  const auto complete = static_cast<double>(succeeded_ + wrong_);
  result["prompt_tokens_mean"] = rounded(share(static_cast<double>(prompt_tokens_), complete));
  result["answer_tokens_mean"] = rounded(share(static_cast<double>(completion_tokens_), complete));
  result["first_token"] = times(first_token_);
  result["first_token_since_start"] = times(first_token_at_);
  result["between_tokens"] = times(between_tokens_);
  result["whole"] = times(whole_);
  json::object processes;
  for (std::size_t i = 0; i < std::min(use_before_.size(), use_after_.size()); ++i) {
    const double cpu = use_after_[i].cpu_seconds - use_before_[i].cpu_seconds;
    json::object one;
    one["cpu_s"] = rounded(cpu);
    one["cpu_us_per_request"] = rounded(share(cpu * 1e6, in_window));
    one["cpu_us_per_frame"] = rounded(share(cpu * 1e6, static_cast<double>(frames_)));
    one["resident_bytes_before"] = use_before_[i].resident_bytes;
    one["resident_bytes_after"] = use_after_[i].resident_bytes;
    one["descriptors_before"] = use_before_[i].descriptors;
    one["descriptors_after"] = use_after_[i].descriptors;
    processes[options_.watch[i].name] = std::move(one);
  }
  result["processes"] = std::move(processes);
  return result;
}

}  // namespace mlxs::bench
