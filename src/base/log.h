#pragma once

#include <spdlog/spdlog.h>

#include <string>
#include <string_view>

namespace mlxs {

/// Sets up the process's diagnostic log: one line an event on stderr, `time level [process] text`.
/// Call once, first thing in main. `level` is trace, debug, info, warn or error.
/// Prompt and answer text never goes here; use spdlog::info(...) and friends afterwards.
void log_init(std::string_view process, std::string_view level);

/// Changes the level at run time (configuration reload). Any thread.
void log_set_level(std::string_view level);

}  // namespace mlxs
