#include "gateway/fleet/fleet.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/json/serialize.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

/// One worker with what was last heard of it.
struct Fleet::Member {
  Worker worker;  // identity and current state; copied into each table
  // Native: the supervisor's word.
  std::string reported = "running";
  std::int64_t pid = 0;
  std::int64_t restarts = 0;
  std::uint64_t restarts_counted = 0;
  std::string exit_error;
  std::unique_ptr<StateStream> stream;
  // Native: the state stream's.
  bool open = false;
  bool ready = false;
  json::object live;
  std::uint64_t steps = 0;
  std::int64_t running = 0;
  std::int64_t waiting = 0;
  TimePoint progress_at{};
  bool stalled = false;
  // Foreign.
  std::string url;
  std::unique_ptr<Probe> probe;
  std::optional<std::string> probe_failure;  // "" if the last probe was answered
};

namespace {

std::int64_t int_or(const json::object& object, std::string_view key, std::int64_t fallback) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) return fallback;
  if (const auto* number = value->if_int64()) return *number;
  if (const auto* number = value->if_uint64()) return static_cast<std::int64_t>(*number);
  return fallback;
}

std::string string_or(const json::object& object, std::string_view key, std::string fallback) {
  const json::value* value = object.if_contains(key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::move(fallback) : std::string{text->data(), text->size()};
}

bool flag(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

// Weights, tokenizer, template, and whatever digests a newer worker adds.
std::string generation_of(const json::object& state) {
  const json::value* digests = state.if_contains("digests");
  return digests == nullptr ? std::string{} : json::serialize(*digests);
}

void set_generation(const FleetTable& table, const std::string& model, ModelWorkers& of_model) {
  const bool any_ready = !of_model.ready.empty();
  for (const WorkerPtr& worker : table.workers) {
    if (worker->model != model) continue;
    if (!worker->native) {
      // Whichever of them answers: the configuration says that they are one model.
      of_model.generation += worker->generation + ' ';
    } else if (worker->state == WorkerState::kReady || !any_ready) {
      of_model.mixed = of_model.mixed || (any_ready && worker != of_model.ready.front() &&
                                          worker->generation != of_model.generation);
      if (of_model.generation.empty()) of_model.generation = worker->generation;
    }
  }
}

bool counts_as_said(std::string_view reported) {
  return reported == "failed" || reported == "backoff" || reported == "stopping";
}

}  // namespace

Fleet::Fleet(asio::io_context& io, Metrics& metrics, const Tuning& tuning, Publish publish)
    : io_(io),
      metrics_(metrics),
      tuning_(tuning),
      publish_(std::move(publish)),
      table_(std::make_shared<FleetTable>()),
      stop_signal_(io.get_executor()) {
  asio::co_spawn(io_, check_stalls(), asio::detached);
}

Fleet::~Fleet() = default;

void Fleet::stop() {
  stopped_ = true;
  members_.clear();
  stop_signal_.notify();
}

Fleet::Member& Fleet::member(const std::string& id) {
  auto& slot = members_[id];
  if (!slot) {
    slot = std::make_unique<Member>();
    slot->worker.id = id;
    slot->worker.in_flight = std::make_shared<std::atomic<int>>(0);
    slot->worker.progress = std::make_shared<ProgressClock>(Clock::now());
  }
  return *slot;
}

void Fleet::set_settings(SettingsPtr settings) {
  settings_ = std::move(settings);
  std::set<std::string> foreign;
  for (const config::Model& model : settings_->config.models) {
    for (std::size_t index = 0; index < model.url_workers.size(); ++index) {
      const config::UrlWorker& url_worker = model.url_workers[index];
      const auto endpoint = parse_endpoint(url_worker.url);
      if (!endpoint) {
        spdlog::error("model {}: {}", model.id, endpoint.error().message);
        continue;
      }
      const std::string id = model.id + "/" + std::to_string(index);
      foreign.insert(id);
      Member& known = member(id);
      Worker& worker = known.worker;
      worker.model = model.id;
      worker.upstream_model = url_worker.model.empty() ? model.id : url_worker.model;
      worker.generation = url_worker.url + ' ' + worker.upstream_model;
      worker.connections_max = tuning_.foreign_connections;
      if (known.probe && known.url == url_worker.url) continue;
      known.stream.reset();
      known.url = url_worker.url;
      known.probe_failure.reset();
      worker.native = false;
      worker.address = endpoint->address;
      worker.base_path = endpoint->base_path;
      ++worker.incarnation;
      known.probe = std::make_unique<Probe>(
          io_, *endpoint, tuning_, [this, &known](const std::string& failure) {
            on_probe(known, failure);
          });
      worker.state = state_of(known);
    }
  }
  remove_if([&](const Member& known) { return known.probe && !foreign.contains(known.worker.id); });
  publish();
}

void Fleet::set_native(const json::array& workers) {
  std::set<std::string> present;
  for (const json::value& value : workers) {
    if (!value.is_object()) continue;
    const json::object& entry = value.get_object();
    const std::string id = string_or(entry, "id", "");
    const auto address = http::Address::parse(string_or(entry, "address", ""));
    if (id.empty() || !address) {
      spdlog::error("[fleet] the supervisor's table names a worker without id or address");
      continue;
    }
    present.insert(id);
    Member& known = member(id);
    if (known.probe) {  // was foreign under the same id until a reload
      known.probe.reset();
      known.url.clear();
    }
    Worker& worker = known.worker;
    worker.native = true;
    worker.model = string_or(entry, "model", "");
    worker.upstream_model = worker.model;
    worker.base_path = "/v1";
    known.reported = string_or(entry, "state", "starting");
    known.exit_error = string_or(entry, "error", "");
    known.restarts = int_or(entry, "restarts", 0);
    const std::int64_t pid = int_or(entry, "pid", 0);
    const bool moved = worker.address != *address;
    // The new process may have opened its state stream before the supervisor's word came.
    const bool replaced = known.pid != pid && int_or(known.live, "pid", 0) != pid;
    known.pid = pid;
    worker.address = *address;
    if (moved) known.stream.reset();
    if (moved || replaced) {
      ++worker.incarnation;
      known.open = known.ready = known.stalled = false;
      known.live.clear();
      if (known.stream && !counts_as_said(known.reported)) known.stream->reopen();
    }
    if (!known.stream)
      known.stream = std::make_unique<StateStream>(
          io_,
          worker.address,
          tuning_,
          StateStream::Callbacks{
              [this, &known](const json::object& state) { on_state(known, state); },
              [this, &known](bool opened, const std::string& why) {
                on_lost(known, opened, why);
              }});
    const config::Model* model = settings_ ? settings_->find_model(worker.model) : nullptr;
    if (model != nullptr)
      worker.connections_max = static_cast<std::size_t>(model->sequences_max) +
                               static_cast<std::size_t>(model->waiting_max);
    worker.state = state_of(known);
    worker.error = known.exit_error;
  }
  remove_if([&](const Member& known) {
    return known.worker.native && !present.contains(known.worker.id);
  });
  publish();
}

void Fleet::on_state(Member& member, const json::object& state) {
  const auto steps = static_cast<std::uint64_t>(int_or(state, "steps", 0));
  const std::int64_t running = int_or(state, "running", 0);
  const std::int64_t waiting = int_or(state, "waiting", 0);
  // The clock of a stall runs only while there is work and no step.
  if (!member.open || steps != member.steps || running + waiting == 0)
    member.progress_at = Clock::now();
  if (steps != member.steps) member.worker.progress->progressed(member.progress_at);
  member.stalled = member.stalled && steps == member.steps && running + waiting > 0;
  member.open = true;
  member.steps = steps;
  member.running = running;
  member.waiting = waiting;
  member.ready = flag(state, "ready");
  member.live = state;
  // Kept while it loads again, for requests that wait for it.
  std::string generation = generation_of(state);
  const bool changed = !generation.empty() && generation != member.worker.generation;
  if (changed) member.worker.generation = std::move(generation);
  if (!refresh(member) && changed) publish();
}

void Fleet::on_lost(Member& member, bool opened, const std::string& why) {
  if (opened) spdlog::info("[fleet] worker {}: {}", member.worker.id, why);
  member.open = member.ready = member.stalled = false;
  member.running = member.waiting = 0;
  if (opened) ++member.worker.incarnation;
  refresh(member);
}

void Fleet::on_probe(Member& member, const std::string& failure) {
  if (!failure.empty() && member.probe_failure != failure)
    spdlog::warn("[fleet] worker {} at {}: {}", member.worker.id, member.url, failure);
  member.probe_failure = failure;
  member.worker.error = failure;
  refresh(member);
}

WorkerState Fleet::state_of(const Member& member) const {
  if (!member.worker.native) {
    if (!member.probe_failure) return WorkerState::kStarting;
    return member.probe_failure->empty() ? WorkerState::kReady : WorkerState::kUnreachable;
  }
  if (member.reported == "failed") return WorkerState::kFailed;
  if (member.reported == "stopping") return WorkerState::kStopping;
  if (member.reported == "backoff") return WorkerState::kBackoff;
  if (!member.open) return WorkerState::kStarting;
  if (member.stalled) return WorkerState::kStalled;
  return member.ready ? WorkerState::kReady : WorkerState::kLoading;
}

bool Fleet::refresh(Member& member) {
  const WorkerState state = state_of(member);
  if (state == member.worker.state) return false;
  spdlog::info("[fleet] worker {}: {} -> {}",
               member.worker.id,
               to_string(member.worker.state),
               to_string(state));
  member.worker.state = state;
  publish();
  return true;
}

void Fleet::publish() {
  if (stopped_) return;
  auto table = std::make_shared<FleetTable>();
  for (const auto& [id, known] : members_) {
    auto worker = std::make_shared<const Worker>(known->worker);
    table->workers.push_back(worker);
    ModelWorkers& of_model = table->models[worker->model];
    if (worker->state == WorkerState::kReady) of_model.ready.push_back(worker);
  }
  for (auto& [id, of_model] : table->models) {
    set_generation(*table, id, of_model);
    of_model.failed = true;
    for (const WorkerPtr& worker : table->workers) {
      if (worker->model != id) continue;
      if (worker->state != WorkerState::kFailed)
        of_model.failed = false;
      else if (of_model.failure.empty())
        of_model.failure = worker->error;
    }
  }
  table_ = std::move(table);
  publish_(table_);
}

asio::awaitable<void> Fleet::check_stalls() {
  while (!stopped_) {
    co_await stop_signal_.wait(Clock::now() + tuning_.stall_check);
    if (stopped_) co_return;
    const TimePoint now = Clock::now();
    for (const auto& [id, known] : members_) {
      if (!known->open || known->stalled || now - known->progress_at < tuning_.stall) continue;
      spdlog::error(
          "[fleet] worker {} made no step for {} ms while it has work", id, tuning_.stall.count());
      known->stalled = true;
      refresh(*known);
    }
  }
}

void Fleet::remove_if(const std::function<bool(const Member&)>& gone) {
  std::erase_if(members_, [&](const auto& item) {
    if (!gone(*item.second)) return false;
    show_state(*item.second, false);
    return true;
  });
}

void Fleet::show_state(const Member& member, bool present) {
  for (const WorkerState state : kWorkerStates)
    metrics_.registry
        .gauge("mlx_worker_state",
               "1 for the state that a worker is in.",
               {{"worker", member.worker.id}, {"state", std::string{to_string(state)}}})
        .set(present && member.worker.state == state ? 1 : 0);
}

void Fleet::collect() {
  for (const auto& [id, known] : members_) {
    show_state(*known, true);
    metrics_.registry
        .gauge("mlx_worker_inflight", "Attempts running on a worker.", {{"worker", id}})
        .set(known->worker.in_flight->load(std::memory_order_relaxed));
    telemetry::Counter& restarts =
        metrics_.registry.counter("mlx_worker_restarts_total",
                                  "Times the supervisor started a native worker again.",
                                  {{"worker", id}});
    const auto seen = static_cast<std::uint64_t>(std::max<std::int64_t>(0, known->restarts));
    if (seen > known->restarts_counted) restarts.add(seen - known->restarts_counted);
    known->restarts_counted = seen;
  }
}

json::array Fleet::describe_workers() const {
  json::array result;
  for (const auto& [id, known] : members_) {
    const Worker& worker = known->worker;
    json::object entry{{"id", id},
                       {"model", worker.model},
                       {"kind", worker.native ? "native" : "url"},
                       {"address", worker.native ? worker.address.to_string() : known->url},
                       {"state", to_string(worker.state)},
                       {"ready", worker.state == WorkerState::kReady},
                       {"in_flight", worker.in_flight->load(std::memory_order_relaxed)},
                       {"connections_max", worker.connections_max}};
    if (!worker.error.empty()) entry["error"] = worker.error;
    if (worker.native) {
      entry["pid"] = known->pid;
      entry["restarts"] = known->restarts;
      entry["running"] = known->running;
      entry["waiting"] = known->waiting;
      entry["steps"] = known->steps;
      entry["live"] = known->live;
    } else {
      entry["upstream_model"] = worker.upstream_model;
    }
    result.push_back(std::move(entry));
  }
  return result;
}

json::array Fleet::describe_models() const {
  json::array result;
  if (!settings_) return result;
  for (const config::Model& model : settings_->config.models) {
    const ModelWorkers* of_model = table_->find(model.id);
    json::array ids;
    for (const WorkerPtr& worker : table_->workers)
      if (worker->model == model.id) ids.push_back(json::string{worker->id});
    json::object entry{{"id", model.id},
                       {"kind", model.native() ? "native" : "url"},
                       {"ready", of_model != nullptr && !of_model->ready.empty()},
                       {"ready_workers", of_model == nullptr ? 0 : of_model->ready.size()},
                       {"failed", of_model != nullptr && of_model->failed},
                       {"workers", std::move(ids)}};
    if (model.native()) entry["source"] = model.source;
    if (of_model != nullptr && !of_model->failure.empty()) entry["error"] = of_model->failure;
    result.push_back(std::move(entry));
  }
  return result;
}

}  // namespace mlxs::gateway
