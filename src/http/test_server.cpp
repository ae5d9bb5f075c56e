#include "http/test_server.h"

#include "base/assert.h"

#include <boost/asio/post.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mlxs::http {
namespace {

constexpr int kPatienceMs = 60'000;  // Against hanging for ever only.

bool ready(int fd, short events) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, kPatienceMs) == 1;
}

}  // namespace

bool send_all(int fd, std::string_view bytes) {
#ifdef MSG_NOSIGNAL
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
  constexpr int kFlags = MSG_DONTWAIT;
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
#endif
  while (!bytes.empty()) {
    if (!ready(fd, POLLOUT)) return false;
    const auto sent = ::send(fd, bytes.data(), bytes.size(), kFlags);
    if (sent < 0 && errno == EAGAIN) continue;
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

TestServer::TestServer(Handler handler, Limits limits, Address address) {
  auto listener = listen_on(address);
  MLXS_ASSERT(listener);
  listener_ = *listener;
  address_ = *local_address(listener_);
  server_ = std::make_unique<Server>(loop_, listener_, limits, std::move(handler), &render_plain);
  server_->start();
  thread_ = std::thread{[this] { loop_.run(); }};
}

TestServer::~TestServer() {
  on_loop([](Server& server) { server.stop(); });
  work_.reset();
  thread_.join();
  ::close(listener_);
}

bool TestServer::eventually(const std::function<bool(Server&)>& condition) {
  const Deadline patience = Deadline::after(Milliseconds{kPatienceMs});
  while (!patience.passed()) {
    if (on_loop(condition)) return true;
  }
  return false;
}

void TestServer::post(std::function<void()> work) { boost::asio::post(loop_, std::move(work)); }

RawClient::RawClient(const Address& address, int receive_buffer) {
  const bool is_unix = address.kind == Address::Kind::kUnix;
  fd_ = ::socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
  MLXS_ASSERT(fd_ >= 0);
  if (receive_buffer > 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  int connected = -1;
  if (is_unix) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.path.data(), address.path.size());
    connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name));
  } else {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &name.sin_addr);
    connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name));
  }
  if (connected != 0) close();
}

RawClient::~RawClient() { close(); }

bool RawClient::send(std::string_view bytes) { return fd_ >= 0 && send_all(fd_, bytes); }

bool RawClient::receive() {
  std::array<char, 64 * 1024> buffer{};
  if (fd_ < 0 || !ready(fd_, POLLIN)) return false;
  const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
  reset_ = got < 0;
  if (got <= 0) return false;
  in_.append(buffer.data(), static_cast<std::size_t>(got));
  return true;
}

std::string RawClient::read_until(std::string_view end) {
  std::size_t found = in_.find(end);
  while (found == std::string::npos) {
    if (!receive()) return std::exchange(in_, {});
    found = in_.find(end);
  }
  std::string result = in_.substr(0, found + end.size());
  in_.erase(0, result.size());
  return result;
}

std::string RawClient::read_answer() {
  std::string answer = read_until("\r\n\r\n");
  const std::string_view name = "content-length: ";
  const std::size_t at = answer.find(name);
  if (at == std::string::npos) return answer;
  const std::size_t length = std::stoul(answer.substr(at + name.size()));
  while (in_.size() < length) {
    if (!receive()) break;
  }
  answer += in_.substr(0, length);
  in_.erase(0, length);
  return answer;
}

std::string RawClient::read_to_end() {
  while (receive()) {
  }
  return std::exchange(in_, {});
}

void RawClient::half_close() { ::shutdown(fd_, SHUT_WR); }

void RawClient::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void RawClient::abort() {
  const linger now{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  close();
}

boost::asio::awaitable<void> reply(Exchange& exchange, std::string body) {
  Response response{.body = std::move(body)};
  (void)co_await exchange.send(std::move(response));
}

std::string body_of(const std::string& answer) {
  const std::size_t at = answer.find("\r\n\r\n");
  return at == std::string::npos ? std::string{} : answer.substr(at + 4);
}

int status_of(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
}

Response render_plain(const Error& error) {
  const ErrorInfo& info = error_info(error.code);
  Response response{.status = info.http_status, .headers = {}, .body = {}};
  response.headers.add("content-type", "text/plain");
  response.body = std::string{info.wire_code} + ": " + error.message;
  return response;
}

}  // namespace mlxs::http
