#pragma once

#include "base/result.h"
#include "supervisor/fd.h"

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::supervisor {

struct Command {
  std::filesystem::path program;
  std::vector<std::string> arguments;  ///< Without the program's name.
  /// (descriptor here, number in the child). All others are closed there, since every descriptor
  /// of this process is close-on-exec.
  std::vector<std::pair<int, int>> descriptors;
  int output = -1;  ///< Where stdout and stderr go; -1: both to our stderr.
};

/// Starts a process in a process group of its own, so that Ctrl-C in a terminal reaches the
/// supervisor only, which then drains. Stdin is /dev/null, signals are at their defaults.
/// kIo names the program and the reason.
[[nodiscard]] Result<pid_t> spawn(const Command& command);

struct Pipe {
  Fd read;
  Fd write;
};
/// A pipe (or a connected pair of unix sockets), close-on-exec. kIo when there are no descriptors.
[[nodiscard]] Result<Pipe> make_pipe();
[[nodiscard]] Result<Pipe> make_socket_pair();

/// Marks every descriptor above stderr close-on-exec: whoever started us may have left some open,
/// and children are to have only what they are given.
void keep_descriptors_to_ourselves();

/// A wait status in words: "exit code 3", "signal 9 (Killed)".
[[nodiscard]] std::string describe_exit(int status);

}  // namespace mlxs::supervisor
