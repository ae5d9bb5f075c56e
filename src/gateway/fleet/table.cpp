#include "gateway/fleet/table.h"

namespace mlxs::gateway {

std::string_view to_string(WorkerState state) {
  switch (state) {
    case WorkerState::kStarting:
      return "starting";
    case WorkerState::kLoading:
      return "loading";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kStalled:
      return "stalled";
    case WorkerState::kUnreachable:
      return "unreachable";
    case WorkerState::kBackoff:
      return "backoff";
    case WorkerState::kFailed:
      return "failed";
    case WorkerState::kStopping:
      return "stopping";
  }
  return "unknown";
}

}  // namespace mlxs::gateway
