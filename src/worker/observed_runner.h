#pragma once

#include "engine/runner.h"
#include "worker/metrics.h"

#include <memory>

namespace mlxs::worker {

/// Passes steps on to `inner` and measures each: time, rows, tokens. Engine thread; `metrics`
/// outlives it.
[[nodiscard]] std::unique_ptr<engine::Runner> observe(std::unique_ptr<engine::Runner> inner,
                                                      Metrics& metrics);

}  // namespace mlxs::worker
