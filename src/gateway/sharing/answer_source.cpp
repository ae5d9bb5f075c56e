#include "gateway/sharing/answer_source.h"

#include "gateway/flight/flight.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;

std::string header_or_empty(const http::Request& request, std::string_view name) {
  const auto value = request.headers.get(name);
  return value ? std::string{*value} : std::string{};
}

// A list of prompts is one of strings or of lists; one of numbers is a single prompt's ids.
std::size_t prompts_of(const json::object& body) {
  const json::value* prompt = body.if_contains("prompt");
  const json::array* list = prompt == nullptr ? nullptr : prompt->if_array();
  return list == nullptr || list->empty() || list->front().is_number() ? 1 : list->size();
}

std::size_t choices_of(const json::object& body) {
  const json::value* n = body.if_contains("n");
  if (n == nullptr || !n->is_number()) return prompts_of(body);
  return prompts_of(body) *
         static_cast<std::size_t>(std::clamp(n->to_number<double>(), 1.0, 1024.0));
}

config::SharePolicy policy_of_key(const config::Config& config, const std::string& name) {
  const auto key = std::ranges::find(config.keys, name, &config::Key::name);
  return key == config.keys.end() ? config::SharePolicy::kAll : key->sharing;
}

JoinLimits join_limits(const config::Config& config) {
  return {.subscribers = static_cast<std::size_t>(config.limits.subscribers),
          .flights = static_cast<std::size_t>(config.limits.flights),
          .log_bytes = config.limits.flight_log_bytes};
}

// What a flight must know besides its fingerprint. Reads the call's body away.
FlightRequest flight_request(const RequestScope& scope,
                             const http::Request& request,
                             const SharingRules& rules,
                             Call&& call) {
  const config::Model& model = *call.model;
  const config::Config& config = scope.settings->config;
  FlightRequest flight;
  flight.surface = scope.record.surface;
  flight.model = model.id;
  flight.native = model.native();
  flight.choices = choices_of(call.body);
  flight.body = std::move(call.body);
  flight.request_id = scope.record.request_id;
  flight.traceparent = header_or_empty(request, "traceparent");
  flight.tracestate = header_or_empty(request, "tracestate");
  flight.settings = scope.settings;
  if (rules.dedup) flight.keep.dedup_ttl = model.sharing.dedup.ttl;
  if (rules.prompt_cache) {
    flight.keep.prompt_cache_ttl = config.prompt_cache.ttl;
    // A native answer that is worth keeping comes out the same: there is nothing to refresh.
    if (!model.native()) flight.keep.grace = config.prompt_cache.grace;
  }
  return flight;
}

CacheResult result_of(const Hit& hit) {
  if (hit.stale) return CacheResult::kStale;
  return hit.layer == Layer::kDedup ? CacheResult::kDedup : CacheResult::kHit;
}

void take_flight(AnswerSource& source, Subscription&& subscription, CacheResult result) {
  source.flight = std::move(subscription);
  source.log = source.flight.flight().log_ptr();
  source.result = result;
}

// Puts a new flight where the rules want it and starts it, unless an equal request was faster.
void launch(LoopContext& context,
            const FlightPtr& flight,
            const JoinLimits& limits,
            AnswerSource& source) {
  FlightTable& table = context.shared.flights;
  const SharingRules& rules = source.rules;
  if (!source.fingerprint || !rules.coalescing) {
    const bool kept = source.fingerprint != nullptr;
    take_flight(source,
                table.alone(flight, kept && rules.keep),
                kept ? CacheResult::kMiss : CacheResult::kBypass);
    flight->start();
    return;
  }
  auto [subscription, added] = table.add(flight, limits, rules.keep, !rules.join);
  if (added == FlightTable::Added::kJoined)
    return take_flight(source, std::move(subscription), CacheResult::kCoalesced);
  const bool open = added == FlightTable::Added::kOpen;
  take_flight(source, std::move(subscription), open ? CacheResult::kMiss : CacheResult::kBypass);
  if (open) context.shared.metrics.coalesce_flights.add();
  flight->start();
}

}  // namespace

Result<AnswerSource> open_answer(LoopContext& context,
                                 const RequestScope& scope,
                                 const http::Request& request,
                                 Call&& call) {
  Shared& shared = context.shared;
  const config::Config& config = scope.settings->config;
  const config::Model& model = *call.model;
  const auto control = read_cache_control(request, call.body);
  if (!control) return control.error();
  AnswerSource source;
  source.taken_at = Clock::now();
  source.rules = sharing_rules(model,
                               policy_of_key(config, scope.record.key),
                               shared.features,
                               is_deterministic(call.body, model.native()),
                               *control);
  // While workers of several generations serve the model, nothing says which will answer.
  const ModelWorkers* workers = context.fleet->find(model.id);
  if (workers != nullptr && workers->mixed) source.rules = {};
  const SharingRules& rules = source.rules;
  const JoinLimits limits = join_limits(config);
  const Stamp admitted = shared.epochs.now();
  const std::string generation = workers == nullptr ? std::string{} : workers->generation;
  if (rules.any())
    source.fingerprint = make_fingerprint({.tenant = scope.record.key,
                                           .model = model.id,
                                           .generation = generation,
                                           .surface = scope.record.surface,
                                           .native = model.native()},
                                          call.body);
  if (rules.join)
    if (Subscription joined = shared.flights.join(*source.fingerprint, limits, rules.keep)) {
      take_flight(source, std::move(joined), CacheResult::kCoalesced);
      return source;
    }
  RefreshClaim refresh;
  if (rules.read && (rules.dedup || rules.prompt_cache)) {
    auto hit = shared.answers.find(*source.fingerprint,
                                   {.dedup = rules.dedup, .prompt_cache = rules.prompt_cache},
                                   source.taken_at);
    // Whoever gets the claim fetches the answer anew, for itself and all who come after.
    if (hit && !hit->refresh) {
      source.result = result_of(*hit);
      source.age = hit->age;
      source.log = std::static_pointer_cast<const Log>(hit->answer);
      return source;
    }
    if (hit) refresh = std::move(hit->refresh);
  }
  auto ticket = shared.admission.try_enter(config.limits.in_flight);
  if (!ticket)
    return fail(ErrorCode::kOverloaded, "[admission] limits.in_flight requests are being answered");
  const Deadline deadline = call.patience.deadline;
  FlightRequest wanted = flight_request(scope, request, rules, std::move(call));
  wanted.ticket = std::make_shared<Admission::Ticket>(std::move(*ticket));
  wanted.fingerprint = source.fingerprint;
  wanted.generation = generation;
  wanted.admitted = admitted;
  wanted.refresh = std::move(refresh);
  if (!rules.coalescing) wanted.deadline = deadline;
  launch(context, std::make_shared<Flight>(context, std::move(wanted)), limits, source);
  return source;
}

bool open_second(LoopContext& context,
                 const RequestScope& scope,
                 const http::Request& request,
                 AnswerSource& source) {
  Shared& shared = context.shared;
  auto call = read_call(*scope.settings, scope.record.surface, request);
  auto ticket = shared.admission.try_enter(scope.settings->config.limits.in_flight);
  if (!call || !ticket) return false;
  Flight& old = source.flight.flight();
  FlightRequest wanted = flight_request(scope, request, source.rules, std::move(*call));
  wanted.ticket = std::make_shared<Admission::Ticket>(std::move(*ticket));
  wanted.fingerprint = source.fingerprint;
  wanted.generation = old.generation();
  wanted.admitted = old.admitted();
  const auto candidate = std::make_shared<Flight>(context, std::move(wanted));
  Subscription moved = shared.flights.second(old, candidate, join_limits(scope.settings->config));
  if (!moved) return false;
  const bool start = &moved.flight() == candidate.get();
  take_flight(source, std::move(moved), CacheResult::kCoalesced);
  if (!start) return true;
  shared.metrics.coalesce_flights.add();
  candidate->start();
  return true;
}

}  // namespace mlxs::gateway
