#pragma once

#include "base/deadline.h"
#include "supervisor/fleet.h"

#include <string>
#include <string_view>
#include <vector>

namespace mlxs::supervisor {

/// What `serve` prints once it can be used.
struct Announcement {
  std::string api;      ///< Address with its real port.
  std::string admin;    ///< Likewise.
  std::string model;    ///< For the examples; empty: none can serve.
  bool keys = false;    ///< Whether requests need a key.
  Milliseconds took{};  ///< Since the start.
};

/// Addresses, a curl line and a Python snippet.
[[nodiscard]] std::string ready_text(const Announcement& announcement);

/// "loading smollm2 40 %, pulling qwen3 3 %, 12 s" for a terminal's status line, without a line
/// break; empty when nothing is being waited for.
[[nodiscard]] std::string progress_line(const std::vector<ModelProgress>& models,
                                        Milliseconds elapsed);

}  // namespace mlxs::supervisor
