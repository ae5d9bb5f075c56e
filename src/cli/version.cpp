#include "base/version.h"

#include "cli/commands.h"

#include <CLI/CLI.hpp>

#include <cstdio>

namespace mlxs::cli {

void add_version(CLI::App& app, Action& action) {
  app.add_subcommand("version", "Print the version")->callback([&action] {
    action = [] {
      std::printf("mlx-serving %.*s\n", static_cast<int>(kVersion.size()), kVersion.data());
      return 0;
    };
  });
}

}  // namespace mlxs::cli
