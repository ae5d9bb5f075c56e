#pragma once

#include "base/deadline.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace mlxs::worker {

/// What the command line of a worker says.
struct Options {
  std::string id = {};               ///< Name of the model; by default that of the source.
  std::string source = {};           ///< A .gguf file, a folder with safetensors, or a hub's name.
  std::string compute = "auto";      ///< auto | float32 | int8
  int sequences_max = 64;            ///< --max-sequences
  int step_tokens_max = 512;         ///< --step-tokens
  Milliseconds latency_budget{120};  ///< --latency-budget-ms; 0: none
  Milliseconds first_token_max{0};   ///< --first-token-ms; 0: none
  bool prefix_cache = true;          ///< --prefix-cache
  int waiting_max = 256;             ///< --waiting
  std::optional<int> context_tokens_max = {};  ///< --context-tokens
  std::optional<std::uint64_t> kv_bytes = {};  ///< --kv-bytes
  std::string packed_folder = {};              ///< --packed-folder
  std::uint64_t packed_bytes_max = 0;          ///< --packed-bytes; 0: none are kept
  int threads = 0;                             ///< For arithmetic; 0 leaves it to the libraries.
  std::string listen = {};                     ///< Address to listen on by itself, or
  int listen_fd = -1;                          ///< a listening descriptor of whoever started it.
  int lifeline_fd = -1;                        ///< A pipe whose end of file means: exit at once.
  std::string log_level = "info";
  Milliseconds drain{30'000};  ///< --drain-ms: asked to stop until cut off.
};

/// Declares the flags; `options` outlives `command_line`.
void add_options(CLI::App& command_line, Options& options);

/// After parsing: fills in the id. kConfig unless exactly one way to listen is given.
[[nodiscard]] Result<void> complete(Options& options);

}  // namespace mlxs::worker
