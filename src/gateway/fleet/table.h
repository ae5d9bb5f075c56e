#pragma once

#include "gateway/fleet/progress_clock.h"
#include "http/address.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::gateway {

/// What the gateway thinks of a worker. Only kReady gets attempts.
enum class WorkerState {
  kStarting,     ///< Its process runs (or is about to), nothing was heard of it yet.
  kLoading,      ///< Its state stream says that the model loads.
  kReady,        ///< Native: says so itself, and steps while it has work. Foreign: answers probes.
  kStalled,      ///< Native: has work, but its step counter stands still.
  kUnreachable,  ///< Foreign: the last probe failed.
  kBackoff,      ///< The supervisor waits before it starts the worker again.
  kFailed,       ///< The supervisor gave up; the model cannot be loaded or crashes at once.
  kStopping,     ///< Asked to end.
};
inline constexpr WorkerState kWorkerStates[] = {WorkerState::kStarting,
                                                WorkerState::kLoading,
                                                WorkerState::kReady,
                                                WorkerState::kStalled,
                                                WorkerState::kUnreachable,
                                                WorkerState::kBackoff,
                                                WorkerState::kFailed,
                                                WorkerState::kStopping};
[[nodiscard]] std::string_view to_string(WorkerState state);

/// One worker as the data loops see it. Immutable; a change makes a new one.
struct Worker {
  std::string id;
  std::string model;  ///< Ours.
  bool native = true;
  std::string upstream_model;  ///< The worker's own name for the model.
  http::Address address;
  std::string base_path;  ///< Before "/chat/completions".
  WorkerState state = WorkerState::kStarting;
  std::uint64_t incarnation = 0;  ///< Another process (or connection) behind the same address.
  std::string error;              ///< Why it is not ready, in words; empty if unknown.
  /// What exactly it serves: digests of weights, tokenizer and template; foreign: URL and model.
  std::string generation;
  std::size_t connections_max = 0;
  std::shared_ptr<std::atomic<int>> in_flight;  ///< Attempts running on it, over all loops.
  std::shared_ptr<ProgressClock> progress;      ///< Never null.
};
using WorkerPtr = std::shared_ptr<const Worker>;

/// The workers of one model.
struct ModelWorkers {
  std::vector<WorkerPtr> ready;  ///< In the order of their ids.
  bool failed = false;           ///< It has workers and all of them are kFailed.
  std::string failure;           ///< The first one's reason.
  /// What its ready workers serve, or without one, what they last did; empty if unknown.
  std::string generation;
  bool mixed = false;  ///< Ready native workers serve different generations.
};

/// All workers: a snapshot that the control thread publishes to the data loops.
struct FleetTable {
  std::vector<WorkerPtr> workers;  ///< In the order of their ids.
  std::map<std::string, ModelWorkers, std::less<>> models;

  [[nodiscard]] const ModelWorkers* find(std::string_view model) const {
    const auto it = models.find(model);
    return it == models.end() ? nullptr : &it->second;
  }
  /// What /ready answers: at least one model has a ready worker.
  [[nodiscard]] bool any_ready() const {
    for (const auto& [id, workers_of] : models)
      if (!workers_of.ready.empty()) return true;
    return false;
  }
};

}  // namespace mlxs::gateway
