#include "worker/refusal.h"

#include <fmt/format.h>

#include <cstddef>

namespace mlxs::worker {

std::optional<Error> refusal(Context& context) {
  if (context.draining) return Error{ErrorCode::kShuttingDown, "This worker is shutting down."};
  if (context.model.ready()) return std::nullopt;
  return Error{ErrorCode::kUnavailable,
               fmt::format("The model '{}' is loading ({:.0f} %).",
                           context.options.id,
                           100 * context.model.progress())};
}

std::optional<Error> generation_refusal(Context& context) {
  if (auto refused = refusal(context)) return refused;
  const engine::EngineLimits& limits = context.model.limits();
  const auto places = static_cast<std::size_t>(limits.sequences_max + limits.waiting_max);
  const std::size_t taken =
      context.generations.size() + static_cast<std::size_t>(context.preparing);
  if (taken < places) return std::nullopt;
  return Error{ErrorCode::kOverloaded,
               fmt::format("All {} places for requests are taken; try again soon.", places)};
}

}  // namespace mlxs::worker
