// Plays all the parts of a server for supervisor_test.cpp: `stand_in supervise FILE` is the real
// supervisor, and the gateway and workers that it starts are this program again, as puppets. A
// puppet connects to the test at $MLXS_STAND_IN, says who it is, reports what happens to it and
// does what it is told, so that the test waits for events and never for time.
#include "supervisor/fd.h"
#include "supervisor/supervisor.h"

#include <boost/json.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using mlxs::supervisor::Fd;

constexpr int kControlOrLifeline = 3;
constexpr int kListener = 4;

int signal_pipe[2];

void on_signal(int signal) {
  const auto byte = static_cast<char>(signal);
  [[maybe_unused]] const auto written = ::write(signal_pipe[1], &byte, 1);
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

json::array open_descriptors() {
  json::array open;
  for (int fd = 0; fd < 256; ++fd) {
    if (::lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF) open.emplace_back(fd);
  }
  return open;
}

class Puppet {
 public:
  Puppet(bool gateway, const std::vector<std::string>& arguments) : gateway_(gateway) {
    json::object hello{{"role", gateway ? "gateway" : "worker"},
                       {"pid", ::getpid()},
                       {"group", ::getpgid(0)},
                       {"descriptors", open_descriptors()},
                       {"arguments", json::array(arguments.begin(), arguments.end())}};
    if (::pipe(signal_pipe) != 0) std::abort();
    std::signal(SIGTERM, on_signal);
    std::signal(SIGPIPE, SIG_IGN);
    test_.reset(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, std::getenv("MLXS_STAND_IN"), sizeof(address.sun_path) - 1);
    if (::connect(test_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
      std::exit(99);
    report(hello);
  }

  [[noreturn]] void run() {
    while (true) {
      std::vector<pollfd> polled{
          {test_.get(), POLLIN, 0}, {kControlOrLifeline, POLLIN, 0}, {signal_pipe[0], POLLIN, 0}};
      if (!gateway_) polled.push_back({kListener, POLLIN, 0});
      if (::poll(polled.data(), polled.size(), -1) < 0) continue;
      if (polled[2].revents != 0) take_signal();
      if (polled[1].revents != 0) take_control();
      if (!gateway_ && polled[3].revents != 0) take_connection();
      if (polled[0].revents != 0) take_commands();
    }
  }

 private:
  void report(const json::object& event) { write_all(test_.get(), json::serialize(event) + "\n"); }

  void take_signal() {
    char signal = 0;
    if (::read(signal_pipe[0], &signal, 1) == 1) report({{"signal", static_cast<int>(signal)}});
  }

  /// What the fixed agreement asks of every child: the end of descriptor 3 is its own end.
  void take_control() {
    char bytes[4096];
    const ssize_t length = ::read(kControlOrLifeline, bytes, sizeof(bytes));
    if (length <= 0) std::_Exit(0);
    control_.append(bytes, static_cast<std::size_t>(length));
    for (std::size_t end; (end = control_.find('\n')) != std::string::npos;) {
      report({{"control", json::parse(control_.substr(0, end))}});
      control_.erase(0, end + 1);
    }
  }

  /// A worker's only request is for its state stream.
  void take_connection() {
    Fd connection{::accept(kListener, nullptr, nullptr)};
    if (!connection.valid()) return;
    char bytes[4096];
    (void)::recv(connection.get(), bytes, sizeof(bytes), 0);
    write_all(connection.get(), "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    if (!state_.empty()) write_all(connection.get(), state_);
    streams_.push_back(std::move(connection));
  }

  void take_commands() {
    char bytes[4096];
    const ssize_t length = ::read(test_.get(), bytes, sizeof(bytes));
    if (length <= 0) std::_Exit(98);
    commands_.append(bytes, static_cast<std::size_t>(length));
    for (std::size_t end; (end = commands_.find('\n')) != std::string::npos;) {
      obey(commands_.substr(0, end));
      commands_.erase(0, end + 1);
    }
  }

  void obey(const std::string& command) {
    const std::size_t space = std::min(command.find(' '), command.size());
    const std::string verb = command.substr(0, space);
    const std::string rest = command.substr(std::min(space + 1, command.size()));
    if (verb == "exit") std::_Exit(std::atoi(rest.c_str()));
    if (verb == "ping") report({{"pong", true}});
    if (verb == "stderr") write_all(STDERR_FILENO, rest + "\n");
    if (verb == "control") write_all(kControlOrLifeline, rest + "\n");
    if (verb == "answer") answer_one(rest);
    if (verb == "state") {
      state_ = "data: " + rest + "\n\n";
      for (const Fd& stream : streams_) write_all(stream.get(), state_);
    }
  }

  /// Accepts a client of the API listener and sends it `text`.
  static void answer_one(const std::string& text) {
    pollfd listener{kListener, POLLIN, 0};
    ::poll(&listener, 1, -1);
    const Fd client{::accept(kListener, nullptr, nullptr)};
    write_all(client.get(), text);
  }

  bool gateway_;
  Fd test_;
  std::string control_;
  std::string commands_;
  std::string state_;
  std::vector<Fd> streams_;
};

int supervise(const std::vector<std::string>& arguments) {
  mlxs::supervisor::Options options;
  options.config_file = arguments.at(1);
  options.overrides.assign(arguments.begin() + 2, arguments.end());
  options.program = fs::read_symlink("/proc/self/exe");
  options.worker_program = options.program;
  // The real proportions, in less time.
  options.worker_restarts.delay_first = mlxs::Milliseconds{2};
  options.worker_restarts.delay_max = mlxs::Milliseconds{8};
  options.gateway_restarts.delay_first = mlxs::Milliseconds{2};
  options.gateway_restarts.delay_max = mlxs::Milliseconds{8};
  options.grace = mlxs::Milliseconds{300};
  return mlxs::supervisor::run(options);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments{argv + 1, argv + argc};
  if (!arguments.empty() && arguments.front() == "supervise") return supervise(arguments);
  Puppet{!arguments.empty() && arguments.front() == "gateway", arguments}.run();
}
