#pragma once

#include "base/deadline.h"
#include "supervisor/restart_policy.h"

#include <filesystem>
#include <string>
#include <vector>

namespace mlxs::supervisor {

struct Options {
  std::filesystem::path config_file;
  std::vector<std::string> overrides;    ///< As for config::load, also on each reload.
  std::filesystem::path program;         ///< mlx-serving; its gateway is `program gateway`.
  std::filesystem::path worker_program;  ///< mlx-serving-worker
  RestartLimits worker_restarts{};
  RestartLimits gateway_restarts{.at_once_when_ready = true};
  Milliseconds grace{5'000};  ///< From SIGTERM to SIGKILL for a process of ours.
};

/// Runs the supervisor until it is asked to end: opens the listeners, starts the gateway and the
/// workers, keeps them running, and prints on stdout how to use them once they are ready.
/// SIGTERM and SIGINT drain (running requests finish within timeouts.drain_ms), a second one ends
/// everything at once; SIGHUP reads the configuration again and retries what has failed.
/// Returns the exit status: 0 after it was asked to end; 1 with a sentence on stderr when it could
/// not start (wrong configuration, an address in use) or when the gateway cannot be kept running.
/// Takes over this process's signals; once a process.
int run(const Options& options);

}  // namespace mlxs::supervisor
