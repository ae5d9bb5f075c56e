#include "cli/commands.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <system_error>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

namespace mlxs::cli {
namespace {

namespace fs = std::filesystem;

fs::path user_config() {
  const char* const config_home = std::getenv("XDG_CONFIG_HOME");
  if (config_home != nullptr && *config_home == '/')
    return fs::path{config_home} / "mlx-serving/config.yaml";
  const char* const home = std::getenv("HOME");
  return fs::path{home != nullptr ? home : "/"} / ".config/mlx-serving/config.yaml";
}

}  // namespace

void add_config_options(CLI::App& app, ConfigOptions& options) {
  app.add_option("-c,--config",
                 options.file,
                 "Configuration file; by default ./config/default.yaml, else "
                 "~/.config/mlx-serving/config.yaml")
      ->type_name("FILE");
  app.add_option("--set",
                 options.sets,
                 "Change a key of the configuration, such as limits.in_flight=64 or "
                 "models[0].workers=2; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

fs::path find_config(const ConfigOptions& options) {
  if (!options.file.empty()) return options.file;
  const fs::path here = "config/default.yaml";
  const fs::path user = user_config();
  std::error_code ignored;
  for (const fs::path& candidate : {here, user}) {
    if (fs::exists(candidate, ignored)) return candidate;
  }
  std::fprintf(stderr,
               "mlx-serving: no configuration: neither ./%s nor %s exists; name one with --config "
               "FILE (docs/flags.md explains the keys)\n",
               here.c_str(),
               user.c_str());
  return {};
}

fs::path program_path() {
#ifdef __APPLE__
  std::string path(4096, '\0');
  auto size = static_cast<std::uint32_t>(path.size());
  if (::_NSGetExecutablePath(path.data(), &size) == 0) return fs::canonical(path.c_str());
  return "mlx-serving";
#else
  return fs::read_symlink("/proc/self/exe");
#endif
}

}  // namespace mlxs::cli
