#pragma once

#include "base/result.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace mlxs::hub {

/// Where the hub and its cache are, as the hub's own tools understand the environment.
struct Environment {
  std::string endpoint = "https://huggingface.co";  ///< HF_ENDPOINT, without a slash at its end.
  std::filesystem::path cache;  ///< HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub.
  std::string token = {};       ///< HF_TOKEN, else what $HF_HOME/token holds. Never logged.
  bool offline = false;         ///< HF_HUB_OFFLINE
};

/// Looks a variable up; nothing if it is unset.
using Lookup = std::function<std::optional<std::string>(const char* name)>;

/// kConfig when a variable's value is impossible; names the variable, never a token.
[[nodiscard]] Result<Environment> read_environment(const Lookup& lookup);
/// Of this process.
[[nodiscard]] Result<Environment> read_environment();

}  // namespace mlxs::hub
