#pragma once

namespace mlxs {

/// Prints the failed condition with its place to stderr and aborts. Never returns.
[[noreturn]] void assert_failed(const char* condition, const char* file, int line);

}  // namespace mlxs

/// An invariant of ours. Stays on in release builds: a process that has lost its own invariants
/// dies and is restarted by the supervisor, which is cheaper than serving wrong answers.
#define MLXS_ASSERT(condition) \
  (static_cast<bool>(condition) ? void(0) : ::mlxs::assert_failed(#condition, __FILE__, __LINE__))
