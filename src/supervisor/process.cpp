#include "supervisor/process.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <system_error>

extern char** environ;  // NOLINT(readability-identifier-naming): named by POSIX

namespace mlxs::supervisor {
namespace {

// Descriptors are moved up here before they are given their numbers in the child: otherwise one
// could be overwritten by another's number, or keep close-on-exec because the numbers are equal.
constexpr int kParkingFrom = 64;

Error io_error(const std::string& what, int error) {
  return fail(ErrorCode::kIo, fmt::format("[supervisor] {}: {}", what, std::strerror(error)));
}

bool set_close_on_exec(int fd) { return ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0; }

struct Actions {
  posix_spawn_file_actions_t value{};
  Actions() { ::posix_spawn_file_actions_init(&value); }
  ~Actions() { ::posix_spawn_file_actions_destroy(&value); }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
};

struct Attributes {
  posix_spawnattr_t value{};
  Attributes() { ::posix_spawnattr_init(&value); }
  ~Attributes() { ::posix_spawnattr_destroy(&value); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
};

void use_fresh_signals_and_group(Attributes& attributes) {
  sigset_t defaults;
  ::sigemptyset(&defaults);
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGQUIT})
    ::sigaddset(&defaults, signal);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigdefault(&attributes.value, &defaults);
  ::posix_spawnattr_setsigmask(&attributes.value, &none);
  ::posix_spawnattr_setpgroup(&attributes.value, 0);
  ::posix_spawnattr_setflags(
      &attributes.value, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
}

}  // namespace

Result<pid_t> spawn(const Command& command) {
  Actions actions;
  ::posix_spawn_file_actions_addopen(&actions.value, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  const int output = command.output >= 0 ? command.output : STDERR_FILENO;
  ::posix_spawn_file_actions_adddup2(&actions.value, output, STDOUT_FILENO);
  if (output != STDERR_FILENO)
    ::posix_spawn_file_actions_adddup2(&actions.value, output, STDERR_FILENO);
  std::vector<Fd> parked;
  for (const auto& [here, there] : command.descriptors) {
    parked.emplace_back(::fcntl(here, F_DUPFD_CLOEXEC, kParkingFrom));
    if (!parked.back().valid()) return io_error("cannot duplicate a descriptor", errno);
    ::posix_spawn_file_actions_adddup2(&actions.value, parked.back().get(), there);
  }
  Attributes attributes;
  use_fresh_signals_and_group(attributes);

  std::vector<std::string> arguments{command.program.string()};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int error = ::posix_spawn(
      &pid, command.program.c_str(), &actions.value, &attributes.value, argv.data(), environ);
  if (error != 0) return io_error("cannot start " + command.program.string(), error);
  return pid;
}

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe(fds) != 0) return io_error("cannot make a pipe", errno);
  Pipe pipe{Fd{fds[0]}, Fd{fds[1]}};
  // Not pipe2: macOS has none, and this process starts children from this thread only.
  if (!set_close_on_exec(fds[0]) || !set_close_on_exec(fds[1]))
    return io_error("cannot set up a pipe", errno);
  return pipe;
}

Result<Pipe> make_socket_pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
    return io_error("cannot make a socket pair", errno);
  Pipe pair{Fd{fds[0]}, Fd{fds[1]}};
  if (!set_close_on_exec(fds[0]) || !set_close_on_exec(fds[1]))
    return io_error("cannot set up a socket pair", errno);
  return pair;
}

void keep_descriptors_to_ourselves() {
  // The folder of our own descriptors, on Linux and macOS.
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator{"/dev/fd", error}) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (fd > STDERR_FILENO) set_close_on_exec(fd);
  }
}

std::string describe_exit(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  if (WIFSIGNALED(status))
    return fmt::format("signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return fmt::format("wait status {}", status);
}

}  // namespace mlxs::supervisor
