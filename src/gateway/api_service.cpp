#include "gateway/api_service.h"

#include "api/request.h"
#include "base/ids.h"
#include "gateway/flight/flight.h"
#include "gateway/stages/deadline.h"
#include "gateway/stages/model.h"
#include "gateway/stages/render.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

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

// What the flight knows, into the request's record.
void record_flight(RequestRecord& record, const Flight& flight) {
  const Log& log = flight.log();
  record.reached_worker = flight.attempts() > 0;
  record.worker = flight.worker_id();
  record.attempts = flight.attempts();
  record.usage = log.usage();
  record.finish_reason = log.finish_reason();
  record.queue = micros(flight.waited());
  if (flight.sent_at())
    record.overhead = micros(*flight.sent_at() - record.arrived_at - flight.waited());
  if (log.first_event_at()) {
    record.first_event = micros(*log.first_event_at() - record.arrived_at);
    record.decode = micros(*log.last_event_at() - *log.first_event_at());
  }
}

// Ties the flight to its only client: it ends when the client leaves or its handler ends.
class Subscription {
 public:
  Subscription(http::Exchange& exchange, FlightPtr flight) : exchange_(exchange), flight_(flight) {
    exchange_.on_client_gone([flight] { flight->stop(cancelled()); });
  }
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;
  ~Subscription() {
    exchange_.on_client_gone({});
    if (!flight_->log().ended()) flight_->stop(cancelled());
  }

 private:
  static Error cancelled() { return {ErrorCode::kCancelled, "[client] left"}; }
  http::Exchange& exchange_;
  FlightPtr flight_;
};

class Streaming {
 public:
  explicit Streaming(telemetry::Gauge& gauge) : gauge_(gauge) { gauge_.add(1); }
  Streaming(const Streaming&) = delete;
  Streaming& operator=(const Streaming&) = delete;
  ~Streaming() { gauge_.add(-1); }

 private:
  telemetry::Gauge& gauge_;
};

std::string header_or_empty(const http::Request& request, std::string_view name) {
  const auto value = request.headers.get(name);
  return value ? std::string{*value} : std::string{};
}

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
  Admission& admission = context_.shared.admission;
  const auto ticket = admission.try_enter(scope.settings->config.limits.in_flight);
  if (!ticket) {
    Error error =
        fail(ErrorCode::kOverloaded, "[admission] limits.in_flight requests are being answered");
    co_await reply_error(exchange, scope, std::move(error), admission.retry_after_s());
    co_return;
  }
  const FlightPtr flight = Flight::start(context_,
                                         {.surface = surface,
                                          .model = call->model->id,
                                          .native = call->model->native(),
                                          .body = std::move(call->body),
                                          .request_id = scope.record.request_id,
                                          .traceparent = header_or_empty(request, "traceparent"),
                                          .tracestate = header_or_empty(request, "tracestate"),
                                          .deadline = call->patience.deadline,
                                          .settings = scope.settings});
  AnswerPlan plan{.head = {.surface = surface,
                           .id = random_id(surface == api::Surface::kChat ? "chatcmpl-" : "cmpl-"),
                           .created = std::chrono::duration_cast<std::chrono::seconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count(),
                           .model = call->model->id},
                  .with_usage = call->include_usage,
                  .with_token_ids = call->want_token_ids,
                  .deadline = call->patience.deadline,
                  .keep_alive = scope.settings->config.timeouts.keep_alive};
  // Half of a client's patience for the next byte, so that a comment arrives in time.
  if (call->patience.next_byte)
    plan.keep_alive = std::min(plan.keep_alive, *call->patience.next_byte / 2);
  {
    const Subscription subscription{exchange, flight};
    if (call->stream) {
      const Streaming streaming{context_.shared.metrics.streams_active};
      co_await send_stream(exchange, scope, flight, std::move(plan));
    } else {
      co_await send_whole(exchange, scope, flight, std::move(plan));
    }
  }
  record_flight(scope.record, *flight);
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
