#include "gateway/testing/test_gateway.h"

#include "base/assert.h"
#include "base/descriptors.h"
#include "base/ids.h"
#include "gateway/gateway.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <system_error>
#include <utility>

namespace mlxs::gateway {

namespace json = boost::json;

namespace {

constexpr Milliseconds kPatience = TestGateway::kPatience;

// One line, or what came before the end or the patience's.
std::string read_line(int fd) {
  std::string line;
  pollfd entry{fd, POLLIN, 0};
  char c = 0;
  while (::poll(&entry, 1, static_cast<int>(kPatience.count())) == 1 && ::read(fd, &c, 1) == 1) {
    if (c == '\n') return line;
    line += c;
  }
  return line;
}

json::object entry_of(const NativeEntry& native) {
  json::object entry;
  entry["id"] = native.id;
  entry["model"] = native.model;
  entry["address"] = native.address.to_string();
  entry["pid"] = native.pid;
  entry["state"] = native.state;
  entry["restarts"] = native.restarts;
  entry["error"] = native.error;
  entry["retry_in_ms"] = 0;
  return entry;
}

}  // namespace

TestGateway::TestGateway(const std::string& yaml, const Tuning& tuning)
    : state_(std::filesystem::temp_directory_path() / random_id("mlxs-gateway-test-")) {
  const http::Address any{.host = "127.0.0.1"};
  auto api = http::listen_on(any);
  auto admin = http::listen_on(any);
  std::array<int, 2> pair{};
  MLXS_ASSERT(api && admin &&
              ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
  api_fd_ = *api;
  admin_fd_ = *admin;
  api_ = *http::local_address(api_fd_);
  admin_ = *http::local_address(admin_fd_);
  control_ = pair[0];
  std::packaged_task<int()> task{[fds = GatewayFds{pair[1], api_fd_, admin_fd_}, tuning] {
    return Gateway{fds, tuning}.run();
  }};
  allow_many_descriptors();  // some tests have a thousand clients
  exit_ = task.get_future();
  thread_ = std::thread{std::move(task)};
  send_config(yaml);
  was_ready_ = read_line(control_) == R"({"type":"ready"})";
}

TestGateway::~TestGateway() {
  close_control();
  thread_.join();
  ::close(api_fd_);
  ::close(admin_fd_);
  std::error_code ignored;
  std::filesystem::remove_all(state_, ignored);
}

void TestGateway::send_line(std::string_view line) {
  const std::string text = std::string{line} + "\n";
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t sent = ::send(control_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) return;
    at += static_cast<std::size_t>(sent);
  }
}

void TestGateway::send_config(const std::string& yaml) {
  json::object message;
  message["type"] = "config";
  std::string whole = yaml;
  if (yaml.find("access:") == std::string::npos) whole += "\nlog: { access: off }\n";
  if (yaml.find("state_dir:") == std::string::npos)
    whole += "\nstate_dir: \"" + state_.string() + "\"\n";
  message["yaml"] = whole;
  send_line(json::serialize(message));
}

void TestGateway::set_workers(const std::vector<NativeEntry>& workers) {
  json::array list;
  for (const NativeEntry& native : workers) list.push_back(entry_of(native));
  json::object message;
  message["type"] = "workers";
  message["workers"] = std::move(list);
  send_line(json::serialize(message));
}

void TestGateway::drain() { send_line(R"({"type":"drain"})"); }

void TestGateway::close_control() {
  if (control_ >= 0) ::close(std::exchange(control_, -1));
}

int TestGateway::wait_exit() {
  if (exit_.wait_for(kPatience) != std::future_status::ready) return -1;
  return exit_.get();
}

Answer TestGateway::chat(std::string extra, http::Headers headers) {
  return post(api_, "/v1/chat/completions", chat_body(extra), std::move(headers));
}

double TestGateway::metric(const std::string& series) const {
  http::Headers headers;
  if (!scrape_key_.empty()) headers.add("authorization", "Bearer " + scrape_key_);
  const std::string text = "\n" + get(admin_, "/metrics", std::move(headers)).body;
  std::this_thread::sleep_for(Milliseconds{1});
  const std::size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

bool TestGateway::wait_metric(const std::string& series, double value) const {
  return eventually([&] { return metric(series) == value; });
}

bool TestGateway::wait_ready() const {
  return eventually([&] { return get(admin_, "/ready").status == 200; });
}

std::string chat_body(const std::string& extra, const std::string& model) {
  return R"({"model":")" + model + R"(","messages":[{"role":"user","content":"hi"}])" + extra + "}";
}

std::string native_yaml(const std::string& more) {
  return "models:\n  - id: m\n    source: m.gguf\n" + more;
}

std::string foreign_yaml(const std::vector<std::string>& urls, const std::string& more) {
  std::string yaml = "models:\n  - id: m\n    workers:\n";
  for (const std::string& url : urls)
    yaml += "      - { kind: url, url: \"" + url + "\", model: their-name }\n";
  return yaml + more;
}

std::string read_text(Client& client) {
  std::string text;
  while (const auto event = client.next_event()) {
    boost::system::error_code bad;
    const json::value value = json::parse(*event, bad);
    if (bad || !value.is_object()) continue;
    const json::value* choices = value.get_object().if_contains("choices");
    if (choices == nullptr || choices->as_array().empty()) continue;
    const json::object& choice = choices->as_array()[0].as_object();
    const json::value* delta = choice.if_contains("delta");
    const json::value* content =
        delta != nullptr ? delta->as_object().if_contains("content") : choice.if_contains("text");
    if (content != nullptr && content->is_string()) text += content->get_string().c_str();
  }
  return text;
}

NativePair::NativePair(const std::string& more, const Tuning& tuning)
    : gateway(native_yaml(more), tuning) {
  gateway.set_workers({{"m/0", "m", worker.address()}});
}

}  // namespace mlxs::gateway
