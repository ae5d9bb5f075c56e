#include "gateway/metrics.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace mlxs::gateway {
namespace {

// Buckets of the OpenTelemetry GenAI conventions; the two smallest of kPerToken are ours, since
// local models decode faster than 10 ms a token.
const std::vector<double> kDuration{
    .01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
const std::vector<double> kFirstToken{
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
const std::vector<double> kPerToken{
    .002, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5};
const std::vector<double> kTokens{
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
const std::vector<double> kSubscribers{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
const std::vector<double> kShort{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05};

double seconds(auto duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Metrics::Metrics(telemetry::Registry& r)
    : registry(r),
      requests_in_flight(
          r.gauge("mlx_requests_in_flight", "Generation requests admitted and not yet answered.")),
      streams_active(r.gauge("mlx_streams_active", "Streamed answers under way.")),
      client_disconnects(r.counter("mlx_client_disconnects_total",
                                   "Clients that left, or read too slowly, before their answer "
                                   "was complete.")),
      access_log_dropped(r.counter("mlx_access_log_dropped_total",
                                   "Access log lines dropped because the writer fell behind.")),
      overhead(r.histogram("mlx_gateway_overhead_seconds",
                           "From a request's arrival to its going out to a worker, waiting for a "
                           "worker or a connection left out.",
                           kShort)),
      pool_idle(r.gauge(
          "mlx_pool_connections", "Connections to workers, by state.", {{"state", "idle"}})),
      pool_leased(r.gauge(
          "mlx_pool_connections", "Connections to workers, by state.", {{"state", "leased"}})),
      flight_subscribers(r.gauge("mlx_flight_subscribers",
                                 "Requests that are being answered from a flight under way.")),
      coalesce_flights(
          r.counter("mlx_coalesce_flights_total", "Flights started that others could join.")),
      coalesce_subscribers(r.histogram("mlx_coalesce_subscribers",
                                       "Requests that took part in a flight that others could "
                                       "join, when it ended.",
                                       kSubscribers)) {}

telemetry::Histogram& Metrics::loop_delay(const std::string& loop) {
  return registry.histogram("mlx_event_loop_delay_seconds",
                            "How late timers of an event loop fire.",
                            kShort,
                            {{"loop", loop}});
}

// Layers are asked in this order; those behind the one that served were not asked.
void LoopMetrics::sharing(const RequestRecord& record) {
  if (!record.cache) return;
  const CacheResult result = *record.cache;
  const SharingRules& rules = record.sharing;
  if (result == CacheResult::kCoalesced) {
    layer("coalescing", result);
    if (!record.error && !record.client_gone) saved("coalesce", record.usage);
    return;
  }
  layer("coalescing",
        rules.join && result != CacheResult::kBypass ? CacheResult::kMiss : CacheResult::kBypass);
  const bool kept = record.served_from_store();
  if (result == CacheResult::kDedup) {
    layer("dedup", result);
  } else {
    layer("dedup", rules.read && rules.dedup ? CacheResult::kMiss : CacheResult::kBypass);
    layer("prompt_cache",
          kept                               ? result
          : rules.read && rules.prompt_cache ? CacheResult::kMiss
                                             : CacheResult::kBypass);
  }
  if (kept && !record.error && !record.client_gone) saved("cache", record.usage);
}

void LoopMetrics::layer(std::string_view layer, CacheResult result) {
  telemetry::Counter*& counter = layers_[{layer, result}];
  if (counter == nullptr)
    counter = &metrics_.registry.counter(
        "mlx_cache_requests_total",
        "What each layer of sharing did for generation requests that got as far; bypass: the layer "
        "was off for the request.",
        {{"layer", std::string{layer}}, {"result", std::string{to_string(result)}}});
  counter->add();
}

void LoopMetrics::saved(std::string_view by, const api::Usage& usage) {
  auto& [prompt, output] = saved_[by];
  if (prompt == nullptr) {
    const auto series = [&](const char* kind) {
      return &metrics_.registry.counter("mlx_saved_tokens_total",
                                        "Tokens of complete answers that no worker computed for "
                                        "this request.",
                                        {{"kind", kind}, {"by", std::string{by}}});
    };
    prompt = series("prompt");
    output = series("output");
  }
  prompt->add(static_cast<std::uint64_t>(std::max<std::int64_t>(0, usage.prompt_tokens)));
  output->add(static_cast<std::uint64_t>(std::max<std::int64_t>(0, usage.completion_tokens)));
}

void LoopMetrics::request(const RequestRecord& record) {
  if (record.client_gone) metrics_.client_disconnects.add();
  if (record.error && !record.reached_worker && !record.client_gone) {
    telemetry::Counter*& counter = rejected_[record.error->code];
    if (counter == nullptr)
      counter = &metrics_.registry.counter(
          "mlx_rejected_total",
          "Requests that were answered with an error before any worker was asked, by reason.",
          {{"reason", std::string{error_info(record.error->code).label}}});
    counter->add();
  }
  if (!record.generation) return;
  generation(record);
  sharing(record);
}

void LoopMetrics::generation(const RequestRecord& record) {
  const std::string model = record.model.empty() ? "unknown" : record.model;
  const int status = record.status != 0 ? record.status : 499;
  telemetry::Counter*& counter = requests_[{model, status}];
  if (counter == nullptr)
    counter = &metrics_.registry.counter(
        "mlx_requests_total",
        "Generation requests by model and status of the answer (499: the client left before it). "
        "An error after the status went out is in mlx_attempts_total.",
        {{"model", model}, {"status", std::to_string(status)}});
  counter->add();
  // Kept answers are counted as saved tokens; these series speak of workers.
  if (!record.reached_worker) return;
  ModelSeries& of = series(model, record.surface);
  of.duration.observe(seconds(record.total));
  if (record.overhead) metrics_.overhead.observe(seconds(*record.overhead));
  if (record.first_event) of.first_token.observe(seconds(*record.first_event));
  if (record.error || record.client_gone) return;
  of.tokens_in.observe(static_cast<double>(record.usage.prompt_tokens));
  of.tokens_out.observe(static_cast<double>(record.usage.completion_tokens));
  if (record.decode && record.usage.completion_tokens > 1)
    of.per_token.observe(seconds(*record.decode) /
                         static_cast<double>(record.usage.completion_tokens - 1));
}

LoopMetrics::ModelSeries& LoopMetrics::series(const std::string& model, api::Surface surface) {
  const auto it = models_.find({model, surface});
  if (it != models_.end()) return it->second;
  telemetry::Labels labels{
      {"gen_ai_operation_name", surface == api::Surface::kChat ? "chat" : "text_completion"},
      {"gen_ai_provider_name", "mlx"},
      {"gen_ai_request_model", model}};
  telemetry::Labels in = labels;
  in.emplace_back("gen_ai_token_type", "input");
  telemetry::Labels out = labels;
  out.emplace_back("gen_ai_token_type", "output");
  telemetry::Registry& r = metrics_.registry;
  const char* tokens_help = "Tokens of completed requests, by direction.";
  return models_
      .emplace(std::pair{model, surface},
               ModelSeries{r.histogram("gen_ai_server_request_duration_seconds",
                                       "Whole requests that reached a worker.",
                                       kDuration,
                                       labels),
                           r.histogram("gen_ai_server_time_to_first_token_seconds",
                                       "From a request's arrival to the first event of its answer.",
                                       kFirstToken,
                                       labels),
                           r.histogram("gen_ai_server_time_per_output_token_seconds",
                                       "Mean time between tokens of one answer, after its first.",
                                       kPerToken,
                                       labels),
                           r.histogram("gen_ai_client_token_usage", tokens_help, kTokens, in),
                           r.histogram("gen_ai_client_token_usage", tokens_help, kTokens, out)})
      .first->second;
}

void LoopMetrics::attempt(const std::string& worker, std::string_view result) {
  std::pair<std::string, std::string> labels{worker, result};
  auto it = attempts_.find(labels);
  if (it == attempts_.end()) {
    telemetry::Counter& counter =
        metrics_.registry.counter("mlx_attempts_total",
                                  "Attempts on workers, by how they ended.",
                                  {{"worker", labels.first}, {"result", labels.second}});
    it = attempts_.emplace(std::move(labels), &counter).first;
  }
  it->second->add();
}

}  // namespace mlxs::gateway
