#pragma once

#include "base/deadline.h"

#include <cstddef>

namespace mlxs::gateway {

/// Intervals and bounds that belong to the design and are no configuration. The values here are
/// the ones in force; tests shorten them.
struct Tuning {
  Milliseconds stall{10'000};        ///< A native worker with work but without a step: lost.
  Milliseconds stall_check{1'000};   ///< How often that is looked at.
  Milliseconds state_head{5'000};    ///< Connect and head of a worker's state stream.
  Milliseconds state_retry{50};      ///< Between two tries to open a state stream.
  Milliseconds probe{2'000};         ///< Between two probes of a foreign worker that answers.
  Milliseconds probe_failed{250};    ///< Between two probes of one that does not.
  Milliseconds probe_wait{2'000};    ///< For a probe's answer.
  Milliseconds pool_idle{30'000};    ///< A pooled connection beyond the warm ones: closed.
  Milliseconds housekeeping{5'000};  ///< How often pools and kept answers are swept.
  Milliseconds canary{100};          ///< Beat of the event-loop delay measurement.
  Milliseconds drain_grace{2'000};   ///< For the last error events after a drain's time is up.
  std::size_t pool_warm = 2;         ///< Connections per worker kept ready in each loop.
  std::size_t foreign_connections = 1024;  ///< Per foreign worker.
  std::size_t access_log_lines = 8192;     ///< Waiting to be written; dropped and counted beyond.
};

}  // namespace mlxs::gateway
