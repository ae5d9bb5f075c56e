#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::telemetry {

/// Label names and values of one time series.
using Labels = std::vector<std::pair<std::string, std::string>>;

/// Monotonic. Any thread; one relaxed atomic add.
class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Goes up and down. Any thread.
class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double delta);
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

/// Cumulative buckets, as Prometheus has them. Any thread.
class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);
  void observe(double value);
  [[nodiscard]] const std::vector<double>& upper_bounds() const { return bounds_; }
  /// Observations per bucket (not cumulative; one more than bounds, the last is +Inf), and their
  /// sum.
  [[nodiscard]] std::vector<std::uint64_t> counts() const;
  [[nodiscard]] double sum() const;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
};

/// All metrics of a process. Look a series up once and keep the reference: it lives as long as the
/// registry. A family has at most `kSeriesMax` series; further label sets share one series whose
/// label values are all "other". Any thread.
class Registry {
 public:
  static constexpr std::size_t kSeriesMax = 1000;

  /// Counter names end in "_total". Asking again with the same name and labels gives the same
  /// object; with another type or help it is a fault of ours (assert).
  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram& histogram(std::string_view name,
                       std::string_view help,
                       const std::vector<double>& upper_bounds,
                       const Labels& labels = {});
  /// Called before each exposition, to set gauges from state that lives elsewhere.
  void on_collect(std::function<void()> callback);

  /// Prometheus text format 0.0.4 (content type "text/plain; version=0.0.4; charset=utf-8").
  [[nodiscard]] std::string expose() const;

 private:
  struct Family;
  Family& family(std::string_view name, std::string_view help, int type);
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;
  std::vector<std::function<void()>> collectors_;

 public:
  Registry();
  ~Registry();
};

}  // namespace mlxs::telemetry
