#include "base/log.h"
#include "cli/commands.h"
#include "gateway/app.h"

#include <CLI/CLI.hpp>

namespace mlxs::cli {

void add_gateway(CLI::App& app, Action& action) {
  // An empty group keeps it out of the help: its descriptors come from the supervisor.
  app.add_subcommand("gateway", "The data plane, started by the supervisor")
      ->group("")
      ->callback([&action] {
        action = [] {
          log_init("gateway", "info");  // The configuration sets the level once it arrives.
          return gateway::run_gateway({});
        };
      });
}

}  // namespace mlxs::cli
