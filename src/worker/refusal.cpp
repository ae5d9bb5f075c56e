#include "worker/refusal.h"

#include <fmt/format.h>

namespace mlxs::worker {

std::optional<Error> refusal(Context& context) {
  if (context.draining) return Error{ErrorCode::kShuttingDown, "This worker is shutting down."};
  if (context.model.ready()) return std::nullopt;
  return Error{ErrorCode::kUnavailable,
               fmt::format("The model '{}' is loading ({:.0f} %).",
                           context.options.id,
                           100 * context.model.progress())};
}

}  // namespace mlxs::worker
