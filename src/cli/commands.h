#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace mlxs::cli {

/// What the chosen subcommand does; returns the exit status.
using Action = std::function<int()>;

// Each adds its subcommand to `app`; choosing it on the command line sets `action`.
void add_serve(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_config(CLI::App& app, Action& action);
void add_pull(CLI::App& app, Action& action);
void add_version(CLI::App& app, Action& action);
/// Hidden: only the supervisor starts it.
void add_gateway(CLI::App& app, Action& action);

/// The options that choose a configuration, shared by `serve` and `config`.
struct ConfigOptions {
  std::string file;               ///< Empty: looked up.
  std::vector<std::string> sets;  ///< key=value
};
void add_config_options(CLI::App& app, ConfigOptions& options);

/// The file named in `options`, else ./config/default.yaml, else
/// ~/.config/mlx-serving/config.yaml ($XDG_CONFIG_HOME honoured); an empty path, with the reason
/// on stderr, when there is none.
[[nodiscard]] std::filesystem::path find_config(const ConfigOptions& options);

/// This very program's file.
[[nodiscard]] std::filesystem::path program_path();

}  // namespace mlxs::cli
