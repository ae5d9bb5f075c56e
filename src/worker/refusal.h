#pragma once

#include "base/error.h"
#include "worker/context.h"

#include <optional>

namespace mlxs::worker {

/// Why this worker takes no work at the moment: kShuttingDown or kUnavailable (it loads).
[[nodiscard]] std::optional<Error> refusal(Context& context);

}  // namespace mlxs::worker
