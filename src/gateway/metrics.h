#pragma once

#include "api/events.h"
#include "base/error.h"
#include "gateway/record.h"
#include "telemetry/metrics.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// The gateway's series that need no label looked up. One for the process; any thread.
struct Metrics {
  explicit Metrics(telemetry::Registry& registry);

  telemetry::Registry& registry;
  telemetry::Gauge& requests_in_flight;
  telemetry::Gauge& streams_active;
  telemetry::Counter& client_disconnects;
  telemetry::Counter& access_log_dropped;
  telemetry::Histogram& overhead;
  telemetry::Gauge& pool_idle;
  telemetry::Gauge& pool_leased;
  telemetry::Gauge& flight_subscribers;
  telemetry::Counter& coalesce_flights;
  telemetry::Histogram& coalesce_subscribers;

  /// Delay of one event loop.
  [[nodiscard]] telemetry::Histogram& loop_delay(const std::string& loop);
};

/// Looks labelled series up once per loop, since the registry's own look-up takes a lock and
/// allocates. Loop thread only; `metrics` outlives it.
class LoopMetrics {
 public:
  explicit LoopMetrics(Metrics& metrics) : metrics_(metrics) {}

  /// Counts an answered request in everything that speaks of requests.
  void request(const RequestRecord& record);
  /// One attempt on `worker` that ended with `result` ("ok", "cancelled" or an error's label).
  void attempt(const std::string& worker, std::string_view result);

 private:
  struct ModelSeries {
    telemetry::Histogram& duration;
    telemetry::Histogram& first_token;
    telemetry::Histogram& per_token;
    telemetry::Histogram& tokens_in;
    telemetry::Histogram& tokens_out;
  };
  ModelSeries& series(const std::string& model, api::Surface surface);
  void generation(const RequestRecord& record);
  void sharing(const RequestRecord& record);
  void layer(std::string_view layer, CacheResult result);
  void saved(std::string_view by, const api::Usage& usage);

  Metrics& metrics_;
  std::map<std::pair<std::string, api::Surface>, ModelSeries> models_;
  std::map<std::pair<std::string, int>, telemetry::Counter*> requests_;
  std::map<std::pair<std::string, std::string>, telemetry::Counter*, std::less<>> attempts_;
  std::map<ErrorCode, telemetry::Counter*> rejected_;
  std::map<std::pair<std::string_view, CacheResult>, telemetry::Counter*> layers_;
  std::map<std::string_view, std::pair<telemetry::Counter*, telemetry::Counter*>> saved_;
};

}  // namespace mlxs::gateway
