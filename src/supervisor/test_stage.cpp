#include "supervisor/test_stage.h"

#include "http/address.h"
#include "supervisor/process.h"

#include <fmt/format.h>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace mlxs::supervisor {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr int kPatienceMs = 60'000;  // Long enough for a busy machine; nothing here waits for time.

void wait_readable(int fd, std::string_view what) {
  pollfd polled{fd, POLLIN, 0};
  if (::poll(&polled, 1, kPatienceMs) <= 0)
    throw std::runtime_error(fmt::format("waited too long for {}", what));
}

}  // namespace

Puppet::Puppet(Fd socket) : socket_(std::move(socket)) {
  hello_ = event();
#ifdef SYS_pidfd_open
  process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid(), 0)));
#endif
}

bool Puppet::read_more() {
  wait_readable(socket_.get(), "a puppet");
  char bytes[4096];
  const ssize_t length = ::read(socket_.get(), bytes, sizeof(bytes));
  if (length <= 0) return false;
  input_.append(bytes, static_cast<std::size_t>(length));
  return true;
}

json::object Puppet::event() {
  std::size_t end = 0;
  while ((end = input_.find('\n')) == std::string::npos) {
    if (!read_more()) throw std::runtime_error("the puppet is gone");
  }
  json::object event = json::parse(input_.substr(0, end)).as_object();
  input_.erase(0, end + 1);
  return event;
}

json::object Puppet::control(std::string_view type) {
  while (true) {
    const json::object happened = event();
    const json::value* const message = happened.if_contains("control");
    if (message != nullptr && message->at("type").as_string() == type) return message->as_object();
  }
}

json::object Puppet::worker_in_state(std::string_view state) {
  while (true) {
    const json::object table = control("workers");
    for (const json::value& row : table.at("workers").as_array()) {
      if (row.at("state").as_string() == state) return row.as_object();
    }
  }
}

void Puppet::command(const std::string& text) const {
  const std::string line = text + "\n";
  if (::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0)
    throw std::runtime_error("the puppet is gone");
}

bool Puppet::gone() {
  while (read_more()) {
  }
  // Its other descriptors may close after this socket; all have once the process has ended.
  pollfd polled{process_.get(), POLLIN, 0};
  return !process_.valid() || ::poll(&polled, 1, kPatienceMs) == 1;
}

std::string Puppet::role() const { return std::string{hello_.at("role").as_string()}; }
pid_t Puppet::pid() const { return static_cast<pid_t>(hello_.at("pid").as_int64()); }

std::vector<std::string> Puppet::arguments() const {
  return json::value_to<std::vector<std::string>>(hello_.at("arguments"));
}

Stage::Stage(const std::string& config) {
  std::string path = (fs::temp_directory_path() / "mlxs-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = path;
  fs::create_directory(folder_ / "run");
  listener_.reset(*http::listen_on(*http::Address::parse("unix:" + path + "/stage")));
  write_config(config);
}

Stage::~Stage() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void Stage::write_config(const std::string& text, const std::string& listen) const {
  std::ofstream{folder_ / "config.yaml"} << "listen: " << listen << "\n"
                                         << "admin: { listen: 127.0.0.1:0 }\n"
                                         << text;
}

void Stage::start(const std::vector<std::string>& overrides) {
  ::setenv("MLXS_STAND_IN", (folder_ / "stage").c_str(), 1);
  ::setenv("XDG_RUNTIME_DIR", (folder_ / "run").c_str(), 1);
  auto output = make_pipe();
  std::vector<std::string> arguments{"supervise", (folder_ / "config.yaml").string()};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  const fs::path here = fs::read_symlink("/proc/self/exe");
  pid_ = *spawn({.program = here.parent_path() / "supervisor_stand_in",
                 .arguments = arguments,
                 .descriptors = {},
                 .output = output->write.get()});
  output_ = std::move(output->read);
}

Puppet Stage::next(const std::string& role) {
  while (true) {
    for (auto puppet = waiting_.begin(); puppet != waiting_.end(); ++puppet) {
      if (puppet->role() != role) continue;
      Puppet found = std::move(*puppet);
      waiting_.erase(puppet);
      return found;
    }
    wait_readable(listener_.get(), "a " + role);
    waiting_.emplace_back(Fd{::accept(listener_.get(), nullptr, nullptr)});
  }
}

bool Stage::somebody_waits() {
  pollfd polled{listener_.get(), POLLIN, 0};
  return !waiting_.empty() || ::poll(&polled, 1, 0) > 0;
}

void Stage::send(int signal) const { ::kill(pid_, signal); }

int Stage::wait() {
  // Its output ends when it does: children print through it.
  while (read_output()) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

bool Stage::read_output() {
  wait_readable(output_.get(), "the supervisor's output; so far: " + printed_);
  char bytes[4096];
  const ssize_t length = ::read(output_.get(), bytes, sizeof(bytes));
  if (length <= 0) return false;
  printed_.append(bytes, static_cast<std::size_t>(length));
  return true;
}

std::string Stage::output_with(const std::string& words) {
  while (printed_.find(words) == std::string::npos) {
    if (!read_output())
      throw std::runtime_error(fmt::format("\"{}\" was not printed, but:\n{}", words, printed_));
  }
  return printed_;
}

std::size_t Stage::runtime_folders() const {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator{folder_ / "run"}, fs::directory_iterator{}));
}

Fd connect_to(const std::string& address) {
  const auto parsed = http::Address::parse(address);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(parsed->port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Fd socket{::socket(AF_INET, SOCK_STREAM, 0)};
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) socket.reset();
  return socket;
}

std::string read_all(const Fd& connection) {
  std::string text;
  char bytes[4096];
  while (true) {
    wait_readable(connection.get(), "an answer");
    const ssize_t length = ::read(connection.get(), bytes, sizeof(bytes));
    if (length <= 0) return text;
    text.append(bytes, static_cast<std::size_t>(length));
  }
}

}  // namespace mlxs::supervisor
