#include "telemetry/metrics.h"

#include "base/assert.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace mlxs::telemetry {
namespace {

constexpr std::string_view kOther = "other";

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

/// Help text and label values; only the latter escape the quote.
void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

bool is_name(std::string_view text, bool colons) {
  const auto letter = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colons && c == ':');
  };
  const auto rest = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
  return !text.empty() && letter(text.front()) && std::all_of(text.begin(), text.end(), rest);
}

/// One sample line; `le` is the bucket's label, if it is one.
void append_sample(std::string& out,
                   std::string_view name,
                   const Labels& labels,
                   std::string_view le,
                   std::string_view value) {
  out += name;
  char separator = '{';
  const auto append_label = [&](std::string_view key, std::string_view text) {
    out += separator;
    out += key;
    out += "=\"";
    append_escaped(out, text, true);
    out += '"';
    separator = ',';
  };
  for (const auto& [key, text] : labels) append_label(key, text);
  if (!le.empty()) append_label("le", le);
  if (separator == ',') out += '}';
  out += ' ';
  out += value;
  out += '\n';
}

void append_histogram(std::string& out,
                      const std::string& name,
                      const Labels& labels,
                      const Histogram& histogram) {
  const std::vector<std::uint64_t> counts = histogram.counts();
  const std::vector<double>& bounds = histogram.upper_bounds();
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    cumulative += counts[i];
    const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    append_sample(out, name + "_bucket", labels, number(bound), std::to_string(cumulative));
  }
  append_sample(out, name + "_sum", labels, {}, number(histogram.sum()));
  append_sample(out, name + "_count", labels, {}, std::to_string(cumulative));
}

}  // namespace

void Gauge::add(double delta) { value_.fetch_add(delta, std::memory_order_relaxed); }

Histogram::Histogram(std::vector<double> upper_bounds)
    : bounds_(std::move(upper_bounds)),
      counts_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds_.size() + 1)) {
  MLXS_ASSERT(std::adjacent_find(bounds_.begin(), bounds_.end(), std::greater_equal<>{}) ==
              bounds_.end());
}

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

std::vector<std::uint64_t> Histogram::counts() const {
  std::vector<std::uint64_t> counts(bounds_.size() + 1);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
  }
  return counts;
}

double Histogram::sum() const { return sum_.load(std::memory_order_relaxed); }

struct Registry::Family {
  enum Type { kCounter, kGauge, kHistogram };
  static constexpr std::array<std::string_view, 3> kTypeNames{"counter", "gauge", "histogram"};

  std::string help;
  int type = kCounter;
  // By labels, so that each exposition has the same order. Objects never move.
  std::map<Labels, Counter> counters;
  std::map<Labels, Gauge> gauges;
  std::map<Labels, Histogram> histograms;

  /// The series of `labels`, which are sorted first; "other" for those that come after the cap.
  template <class Metric, class... Arguments>
  static Metric& series(std::map<Labels, Metric>& all, Labels labels, Arguments&&... arguments) {
    std::sort(labels.begin(), labels.end());
    if (all.size() >= kSeriesMax && !all.contains(labels)) {
      for (auto& [name, value] : labels) value = kOther;
    }
    for (const auto& [name, value] : labels) MLXS_ASSERT(is_name(name, false));
    return all.try_emplace(std::move(labels), std::forward<Arguments>(arguments)...).first->second;
  }
};

Registry::Registry() = default;
Registry::~Registry() = default;

Registry::Family& Registry::family(std::string_view name, std::string_view help, int type) {
  auto found = families_.find(name);
  if (found == families_.end()) {
    MLXS_ASSERT(is_name(name, true));
    MLXS_ASSERT(type != Family::kCounter || name.ends_with("_total"));
    found = families_.emplace(name, std::make_unique<Family>()).first;
    found->second->help = help;
    found->second->type = type;
  }
  MLXS_ASSERT(found->second->type == type);
  MLXS_ASSERT(found->second->help == help);
  return *found->second;
}

Counter& Registry::counter(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock{mutex_};
  return Family::series(family(name, help, Family::kCounter).counters, labels);
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock{mutex_};
  return Family::series(family(name, help, Family::kGauge).gauges, labels);
}

Histogram& Registry::histogram(std::string_view name,
                               std::string_view help,
                               const std::vector<double>& upper_bounds,
                               const Labels& labels) {
  const std::lock_guard lock{mutex_};
  auto& all = family(name, help, Family::kHistogram).histograms;
  Histogram& histogram = Family::series(all, labels, upper_bounds);
  MLXS_ASSERT(histogram.upper_bounds() == upper_bounds);
  return histogram;
}

void Registry::on_collect(std::function<void()> callback) {
  const std::lock_guard lock{mutex_};
  collectors_.push_back(std::move(callback));
}

std::string Registry::expose() const {
  // Collectors look series up, so they run without the lock.
  std::vector<std::function<void()>> collectors;
  {
    const std::lock_guard lock{mutex_};
    collectors = collectors_;
  }
  for (const auto& collect : collectors) collect();

  const std::lock_guard lock{mutex_};
  std::string out;
  for (const auto& [name, family] : families_) {
    out += "# HELP " + name + ' ';
    append_escaped(out, family->help, false);
    out += "\n# TYPE " + name + ' ';
    out += Family::kTypeNames.at(static_cast<std::size_t>(family->type));
    out += '\n';
    for (const auto& [labels, metric] : family->counters) {
      append_sample(out, name, labels, {}, std::to_string(metric.value()));
    }
    for (const auto& [labels, metric] : family->gauges) {
      append_sample(out, name, labels, {}, number(metric.value()));
    }
    for (const auto& [labels, metric] : family->histograms) {
      append_histogram(out, name, labels, metric);
    }
  }
  return out;
}

}  // namespace mlxs::telemetry
