#pragma once

#include "base/error.h"
#include "worker/context.h"

#include <optional>

namespace mlxs::worker {

/// Why this worker takes no work at the moment: kShuttingDown or kUnavailable (it loads).
[[nodiscard]] std::optional<Error> refusal(Context& context);

/// As `refusal`, for work that needs a place in the engine: also kOverloaded, when what is being
/// prepared, waits and runs fills `sequences_max + waiting_max`.
[[nodiscard]] std::optional<Error> generation_refusal(Context& context);

}  // namespace mlxs::worker
