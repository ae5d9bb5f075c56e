#include "cli/commands.h"
#include "config/config.h"
#include "hub/cache.h"
#include "hub/environment.h"
#include "hub/pull.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <string>

namespace mlxs::cli {
namespace {

/// Loads what `options` name and gives it to `then`.
template <class F>
int with_config(const ConfigOptions& options, const F& then) {
  const std::filesystem::path file = find_config(options);
  if (file.empty()) return 1;
  const auto config = config::load(file, options.sets);
  if (!config) {
    std::fprintf(stderr, "mlx-serving: %s\n", config.error().message.c_str());
    return 1;
  }
  then(file, *config);
  return 0;
}

int show(const ConfigOptions& options, bool defaults) {
  if (defaults) {
    std::fputs(config::render_defaults().c_str(), stdout);
    return 0;
  }
  return with_config(options, [](const auto& /*file*/, const config::Config& config) {
    std::fputs(config::render(config).c_str(), stdout);
  });
}

/// Whether `serve` has to fetch the model first.
void print_hub_source(const config::Model& model) {
  const auto source = hub::hub_source(model.source);
  if (!source) return;
  const auto environment = hub::read_environment();
  if (!environment) {
    std::printf("  %s: %s\n", model.id.c_str(), environment.error().message.c_str());
    return;
  }
  const auto cached = hub::Cache{environment->cache}.find(*source);
  std::printf("  %s: %s\n",
              model.id.c_str(),
              cached
                  ? ("in the cache at " + cached->string()).c_str()
                  : ("not in the cache; `mlx-serving pull " + source->to_string() + "` fetches it" +
                     (environment->offline ? "" : ", else `serve` does at its start"))
                        .c_str());
}

int check(const ConfigOptions& options) {
  return with_config(options, [](const auto& file, const config::Config& config) {
    std::printf("%s: ok, %zu model%s\n",
                file.c_str(),
                config.models.size(),
                config.models.size() == 1 ? "" : "s");
    for (const config::Model& model : config.models) print_hub_source(model);
  });
}

}  // namespace

void add_config(CLI::App& app, Action& action) {
  CLI::App* const command =
      app.add_subcommand("config", "Show or check a configuration without serving it");
  command->require_subcommand(1);

  auto show_options = std::make_shared<ConfigOptions>();
  auto defaults = std::make_shared<bool>(false);
  CLI::App* const show_command =
      command->add_subcommand("show", "Print the configuration that `serve` would use");
  add_config_options(*show_command, *show_options);
  show_command->add_flag("--defaults", *defaults, "Print every key with its default instead");
  show_command->callback([show_options, defaults, &action] {
    action = [show_options, defaults] { return show(*show_options, *defaults); };
  });

  auto check_options = std::make_shared<ConfigOptions>();
  CLI::App* const check_command =
      command->add_subcommand("check", "Say whether a configuration is right, and where it is not");
  add_config_options(*check_command, *check_options);
  check_command->callback(
      [check_options, &action] { action = [check_options] { return check(*check_options); }; });
}

}  // namespace mlxs::cli
