#include "base/version.h"
#include "cli/commands.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

constexpr int kUsage = 2;  // As shells and GNU tools end on a wrong command line.

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "mlx-serving serves large language models on this machine behind the OpenAI API.\n"
      "Start with `mlx-serving serve`, then try `mlx-serving chat`.",
      "mlx-serving"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string{mlxs::kVersion});
  mlxs::cli::Action action;
  mlxs::cli::add_serve(app, action);
  mlxs::cli::add_chat(app, action);
  mlxs::cli::add_config(app, action);
  mlxs::cli::add_pull(app, action);
  mlxs::cli::add_version(app, action);
  mlxs::cli::add_gateway(app, action);
  try {
    app.parse(argc, argv);
    return action();
  } catch (const CLI::RequiredError& error) {
    // CLI11 asks for a command even when there is one that it does not know.
    const std::vector<std::string> unknown = app.remaining();
    if (unknown.empty()) {
      app.exit(error);
      return kUsage;
    }
    std::fprintf(stderr,
                 "mlx-serving: there is no command %s; mlx-serving --help lists them\n",
                 unknown.front().c_str());
    return kUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mlx-serving: %s\n", error.what());
    return 1;
  }
}
