#include "supervisor/fleet.h"

#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlxs::supervisor {
namespace {

int native_workers(const config::Config& config) {
  int count = 0;
  for (const config::Model& model : config.models) count += model.native() ? model.workers : 0;
  return count;
}

}  // namespace

Fleet::Fleet(boost::asio::io_context& loop, Settings settings, std::function<void()> changed)
    : loop_(loop), settings_(std::move(settings)), changed_(std::move(changed)) {}

Result<void> Fleet::apply(const config::Config& config) {
  for (const auto& worker : workers_) {
    worker->set_log_level(config.log.level);
    const auto model =
        std::ranges::find(config.models, worker->settings().model.id, &config::Model::id);
    const int wanted = model == config.models.end() || !model->native() ? 0 : model->workers;
    const auto before = std::count_if(
        workers_.begin(), std::ranges::find(workers_, worker), [&](const auto& other) {
          return !other->retiring() && other->settings().model.id == worker->settings().model.id;
        });
    if (before >= wanted && !worker->retiring())
      worker->retire(config.timeouts.drain, settings_.grace);
  }
  for (const config::Model& model : config.models) {
    if (model.native()) MLXS_TRY(grow(model, config));
  }
  return {};
}

Result<void> Fleet::grow(const config::Model& model, const config::Config& config) {
  // Without a place for state nothing is kept; whoever needs one says so.
  const auto state = config::state_folder(config);
  const bool keeps = state && config.packed_weights.enabled;
  const auto alive = [&](const auto& worker) {
    return !worker->retiring() && worker->settings().model.id == model.id;
  };
  for (auto count = std::ranges::count_if(workers_, alive); count < model.workers; ++count) {
    auto worker =
        Worker::create(loop_,
                       {.id = free_id(model.id),
                        .model = model,
                        .threads = std::max(1, settings_.cores / native_workers(config)),
                        .packed_folder = state ? *state / "weights" : std::filesystem::path{},
                        .packed_bytes_max = keeps ? config.packed_weights.bytes : 0,
                        .log_level = config.log.level,
                        .program = settings_.program,
                        .socket = settings_.sockets / fmt::format("w{}.sock", sockets_made_++),
                        .restarts = settings_.restarts},
                       changed_);
    if (!worker) return worker.error();
    workers_.push_back(*worker);
    (*worker)->start();
  }
  return {};
}

std::string Fleet::free_id(const std::string& model) const {
  for (int index = 0;; ++index) {
    std::string id = fmt::format("{}/{}", model, index);
    if (std::ranges::none_of(workers_, [&](const auto& w) { return w->settings().id == id; }))
      return id;
  }
}

void Fleet::retry_failed() {
  for (const auto& worker : workers_) worker->retry();
}

void Fleet::terminate_all() {
  for (const auto& worker : workers_) worker->terminate(settings_.grace);
}

void Fleet::kill_all() {
  for (const auto& worker : workers_) worker->kill();
}

void Fleet::reap() {
  for (const auto& worker : workers_) worker->reap();
  const auto gone = std::erase_if(workers_, [](const auto& worker) {
    return worker->retiring() && worker->state() == KeptProcess::State::kStopped;
  });
  if (gone > 0) changed_();
}

bool Fleet::all_stopped() const {
  return std::ranges::all_of(
      workers_, [](const auto& worker) { return worker->state() == KeptProcess::State::kStopped; });
}

std::vector<WorkerEntry> Fleet::entries() const {
  std::vector<WorkerEntry> entries;
  entries.reserve(workers_.size());
  for (const auto& worker : workers_) entries.push_back(worker->entry());
  return entries;
}

std::vector<ModelProgress> Fleet::progress() const {
  std::vector<ModelProgress> models;
  for (const auto& worker : workers_) {
    if (worker->retiring()) continue;
    const bool failed = worker->state() == KeptProcess::State::kFailed;
    auto model = std::ranges::find(models, worker->settings().model.id, &ModelProgress::id);
    if (model == models.end()) {
      models.push_back({.id = worker->settings().model.id, .failed = true});
      model = models.end() - 1;
    }
    model->ready = model->ready || worker->state() == KeptProcess::State::kRunning;
    model->failed = model->failed && failed;
    model->pulling = model->pulling || worker->pulling();
    model->load_progress = std::max(model->load_progress, worker->load_progress());
  }
  return models;
}

}  // namespace mlxs::supervisor
