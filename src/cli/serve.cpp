#include "base/descriptors.h"
#include "cli/commands.h"
#include "supervisor/supervisor.h"

#include <CLI/CLI.hpp>

#include <memory>
#include <utility>

namespace mlxs::cli {
namespace {

struct ServeOptions {
  ConfigOptions config;
  std::string listen;
};

int serve(const ServeOptions& options) {
  allow_many_descriptors();  // The gateway and the workers inherit it.
  supervisor::Options supervise;
  supervise.config_file = find_config(options.config);
  if (supervise.config_file.empty()) return 1;
  supervise.overrides = options.config.sets;
  if (!options.listen.empty()) supervise.overrides.push_back("listen=" + options.listen);
  supervise.program = program_path();
  supervise.worker_program = supervise.program.parent_path() / "mlx-serving-worker";
  return supervisor::run(supervise);
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* const command =
      app.add_subcommand("serve", "Serve the configured models until SIGTERM or Ctrl-C");
  add_config_options(*command, options->config);
  command
      ->add_option("-l,--listen",
                   options->listen,
                   "Address of the API, such as 127.0.0.1:8080 (short for --set listen=ADDRESS)")
      ->type_name("ADDRESS");
  command->footer(
      "SIGTERM or Ctrl-C lets running requests finish (timeouts.drain_ms), a second one ends at "
      "once.\nSIGHUP reads the configuration again.");
  command->callback([options, &action] { action = [options] { return serve(*options); }; });
}

}  // namespace mlxs::cli
