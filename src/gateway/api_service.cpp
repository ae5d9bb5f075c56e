#include "gateway/api_service.h"

#include "api/request.h"
#include "base/hash.h"
#include "gateway/flight/flight.h"
#include "gateway/stages/model.h"
#include "gateway/stages/render.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

std::chrono::microseconds micros(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration);
}

// What sharing did and where the answer came from, into the request's record.
void record_source(RequestRecord& record, const AnswerSource& source) {
  const Log& log = *source.log;
  if (log.ended()) {
    record.usage = usage_of(source);
    record.finish_reason = log.finish_reason();
  }
  if (!source.flight) return;
  const FlightNotes notes = source.flight.flight().notes();
  record.reached_worker = notes.attempts > 0;
  record.worker = notes.worker;
  record.attempts = notes.attempts;
  if (!source.shared()) {
    record.queue = micros(notes.waited);
    if (notes.sent_at) record.overhead = micros(*notes.sent_at - record.arrived_at - notes.waited);
  }
  if (const auto first = log.first_event_at()) {
    record.first_event = micros(std::max(*first - record.arrived_at, Clock::duration{0}));
    record.decode = micros(*log.last_event_at() - *first);
  }
}

class Streaming {
 public:
  explicit Streaming(telemetry::Gauge& gauge) : gauge_(gauge) { gauge_.add(1); }
  Streaming(const Streaming&) = delete;
  Streaming& operator=(const Streaming&) = delete;
  ~Streaming() { gauge_.add(-1); }

 private:
  telemetry::Gauge& gauge_;
};

}  // namespace

const Route<ApiService> ApiService::kRoutes[] = {
    {{"/v1/chat/completions", "POST"}, &ApiService::chat},
    {{"/v1/completions", "POST"}, &ApiService::completions},
    {{"/v1/models", "GET"}, &ApiService::list_models},
    {{"/v1/models/", "GET"}, &ApiService::show_model},
    {{"/health", "GET", true}, &ApiService::health},
    {{"/ready", "GET", true}, &ApiService::ready},
};

asio::awaitable<void> ApiService::handle(http::Exchange& exchange) {
  struct Active {
    ApiService& service;
    explicit Active(ApiService& of) : service(of) { ++service.active_; }
    Active(const Active&) = delete;
    Active& operator=(const Active&) = delete;
    ~Active() { service.left(); }
  } active{*this};
  RequestScope scope{context_.settings, exchange.request()};
  co_await dispatch(*this,
                    std::span<const Route<ApiService>>{kRoutes},
                    scope.settings->api_guard,
                    exchange,
                    scope);
  close_record(scope.record, exchange);
  context_.metrics.request(scope.record);
  if (context_.shared.access_log.enabled())
    context_.shared.access_log.write(to_json_line(scope.record));
}

void ApiService::drain(std::function<void()> idle) {
  draining_ = true;
  idle_ = std::move(idle);
  if (active_ == 0 && idle_) std::exchange(idle_, {})();
}

void ApiService::left() {
  --active_;
  if (active_ == 0 && idle_) std::exchange(idle_, {})();
}

asio::awaitable<void> ApiService::chat(http::Exchange& exchange, RequestScope& scope) {
  return generate(exchange, scope, api::Surface::kChat);
}

asio::awaitable<void> ApiService::completions(http::Exchange& exchange, RequestScope& scope) {
  return generate(exchange, scope, api::Surface::kCompletions);
}

asio::awaitable<void> ApiService::generate(http::Exchange& exchange,
                                           RequestScope& scope,
                                           api::Surface surface) {
  const http::Request& request = exchange.request();
  scope.record.generation = true;
  scope.record.surface = surface;

  auto call = read_call(*scope.settings, surface, request);
  if (call) {
    scope.record.model = call->model->id;
    scope.record.stream = call->stream;
  } else {
    co_await reply_error(exchange, scope, call.error());
    co_return;
  }
  AnswerPlan plan{.with_usage = call->include_usage,
                  .with_token_ids = call->want_token_ids,
                  .deadline = call->patience.deadline,
                  .keep_alive = scope.settings->config.timeouts.keep_alive,
                  .join_timeout = call->model->sharing.coalescing.join_timeout};
  // Half of a client's patience for the next byte, so that a comment arrives in time.
  if (call->patience.next_byte)
    plan.keep_alive = std::min(plan.keep_alive, *call->patience.next_byte / 2);
  auto source = open_answer(context_, scope, request, std::move(*call));
  if (!source) {
    std::optional<int> retry_after_s;
    if (source.error().code == ErrorCode::kOverloaded)
      retry_after_s = context_.shared.admission.retry_after_s();
    co_await reply_error(exchange, scope, source.error(), retry_after_s);
    co_return;
  }
  announce(scope.record, *source);
  if (scope.record.stream) {
    const Streaming streaming{context_.shared.metrics.streams_active};
    co_await send_stream(exchange, context_, scope, *source, plan);
  } else {
    co_await send_whole(exchange, context_, scope, *source, plan);
  }
  record_source(scope.record, *source);
}

void ApiService::announce(RequestRecord& record, const AnswerSource& source) {
  record.cache = source.result;
  record.sharing = source.rules;
  if (source.fingerprint) record.cache_key = to_hex(source.fingerprint->digest);
  if (source.age) record.age = std::chrono::floor<std::chrono::seconds>(*source.age);
  if (source.shared() && !source.rules.deterministic &&
      context_.shared.flights.first_sampled_share())
    spdlog::info(
        "[sharing] model {}: a request without seed or temperature 0 got another one's answer, as "
        "models[].sharing says; this is logged once",
        record.model);
}

asio::awaitable<void> ApiService::list_models(http::Exchange& exchange, RequestScope& scope) {
  json::array data;
  for (const config::Model& model : scope.settings->config.models)
    data.push_back(model_object(model, scope.settings->loaded_at));
  return reply_json(
      exchange, scope, 200, json::object{{"object", "list"}, {"data", std::move(data)}});
}

asio::awaitable<void> ApiService::show_model(http::Exchange& exchange, RequestScope& scope) {
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string id = percent_decoded(exchange.request().path().substr(kPrefix.size()));
  auto model = find_model(*scope.settings, id);
  if (!model) return reply_error(exchange, scope, model.error());
  return reply_json(exchange, scope, 200, model_object(**model, scope.settings->loaded_at));
}

asio::awaitable<void> ApiService::health(http::Exchange& exchange, RequestScope& scope) {
  return reply_json(exchange, scope, 200, json::object{{"status", "ok"}});
}

asio::awaitable<void> ApiService::ready(http::Exchange& exchange, RequestScope& scope) {
  return reply_ready(exchange, scope, context_.fleet->any_ready(), draining_);
}

}  // namespace mlxs::gateway
