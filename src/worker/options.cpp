#include "worker/options.h"

#include "base/version.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>

namespace mlxs::worker {

void add_options(CLI::App& command_line, Options& options) {
  command_line.set_version_flag("--version", std::string{kVersion});
  command_line
      .add_option("--source",
                  options.source,
                  "Model: a .gguf file, a folder, or ORG/NAME[@REVISION][:FILE.gguf] on a hub")
      ->required();
  command_line.add_option("--id", options.id, "Name of the model; default: that of the source");
  command_line.add_option("--compute", options.compute, "Arithmetic: auto, float32 or int8")
      ->check(CLI::IsMember({"auto", "float32", "int8"}));
  command_line.add_option("--max-sequences", options.sequences_max, "Rows in a step")
      ->check(CLI::Range(1, 4096));
  command_line.add_option("--step-tokens", options.step_tokens_max, "Tokens in a step")
      ->check(CLI::Range(2, 1'000'000));
  const auto add_milliseconds = [&](const char* name, Milliseconds& to, const char* help) {
    command_line
        .add_option_function<std::int64_t>(
            name, [&to](std::int64_t given) { to = Milliseconds{given}; }, help)
        ->check(CLI::Range(0, 86'400'000));
  };
  add_milliseconds(
      "--latency-budget-ms", options.latency_budget, "A step that decodes, at most; 0: any");
  add_milliseconds("--first-token-ms",
                   options.first_token_max,
                   "429 where prompts queue for longer than this; 0: never");
  command_line
      .add_option_function<std::string>(
          "--prefix-cache",
          [&options](const std::string& given) { options.prefix_cache = given == "on"; },
          "Reuse what was computed for prompts that begin alike: on or off")
      ->check(CLI::IsMember({"on", "off"}));
  command_line.add_option("--waiting", options.waiting_max, "Requests that may wait; 429 beyond")
      ->check(CLI::Range(0, 1'000'000));
  command_line
      .add_option("--context-tokens", options.context_tokens_max, "Less than the model's own")
      ->check(CLI::Range(2, 100'000'000));
  command_line.add_option("--kv-bytes", options.kv_bytes, "Size of the key/value pool");
  command_line.add_option(
      "--packed-folder", options.packed_folder, "Where weights packed for the CPU are kept");
  command_line.add_option("--packed-bytes", options.packed_bytes_max, "Of them, at most; 0: none");
  command_line.add_option("--threads", options.threads, "For arithmetic; 0: the libraries' choice")
      ->check(CLI::Range(0, 1024));
  command_line.add_option("--listen", options.listen, "HOST:PORT or unix:PATH");
  command_line.add_option("--listen-fd", options.listen_fd, "Descriptor that listens already");
  command_line.add_option("--lifeline-fd", options.lifeline_fd, "Pipe; its end of file: exit");
  command_line.add_option("--log-level", options.log_level, "trace, debug, info, warn or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  add_milliseconds(
      "--drain-ms", options.drain, "From the signal to stop until running requests are cut");
}

Result<void> complete(Options& options) {
  if (options.listen.empty() == (options.listen_fd < 0))
    return fail(ErrorCode::kConfig, "Expected one of --listen and --listen-fd.");
  if (!options.id.empty()) return {};
  auto path = std::filesystem::path{options.source}.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  options.id = (path.extension() == ".gguf" ? path.stem() : path.filename()).string();
  return {};
}

}  // namespace mlxs::worker
