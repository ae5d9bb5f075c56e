#include "gateway/testing/client.h"

#include "base/assert.h"

#include <boost/json/parse.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace mlxs::gateway {

namespace json = boost::json;

namespace {

std::string lower(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

Answer parse_head(const std::string& head) {
  Answer answer;
  answer.status = head.starts_with("HTTP/1.1 ") ? std::stoi(head.substr(9, 3)) : 0;
  std::size_t at = head.find("\r\n");
  while (at != std::string::npos && at + 2 < head.size()) {
    const std::size_t end = head.find("\r\n", at + 2);
    const std::string line = head.substr(at + 2, end - at - 2);
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos)
      answer.headers.add(lower(line.substr(0, colon)),
                         line.substr(std::min(line.size(), colon + 2)));
    at = end;
  }
  return answer;
}

}  // namespace

json::value Answer::json() const {
  boost::system::error_code bad;
  json::value value = json::parse(body, bad);
  return bad ? json::value{} : value;
}

std::string Answer::error_code() const {
  const json::value value = json();
  const auto* object = value.if_object();
  const auto* error = object == nullptr ? nullptr : object->if_contains("error");
  if (error == nullptr || !error->is_object()) return {};
  const auto* code = error->get_object().if_contains("code");
  return code != nullptr && code->is_string() ? std::string{code->get_string().c_str()} : "";
}

std::string Answer::header(std::string_view name) const {
  const auto value = headers.get(name);
  return value ? std::string{*value} : std::string{};
}

Client::Client(const http::Address& address, int receive_buffer) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  MLXS_ASSERT(fd_ >= 0);
  if (receive_buffer > 0)
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(address.port);
  ::inet_pton(AF_INET, address.host.c_str(), &name.sin_addr);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) close();
}

Client::~Client() { close(); }

void Client::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

bool Client::receive() {
  constexpr int kPatienceMs = 60'000;
  std::array<char, 64 * 1024> buffer{};
  pollfd entry{fd_, POLLIN, 0};
  if (fd_ < 0 || ::poll(&entry, 1, kPatienceMs) != 1) return false;
  const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
  if (got <= 0) return false;
  in_.append(buffer.data(), static_cast<std::size_t>(got));
  return true;
}

bool Client::receive_until(std::string_view end, std::size_t& found) {
  while ((found = in_.find(end)) == std::string::npos)
    if (!receive()) return false;
  return true;
}

void Client::send(const http::Request& request) {
  std::string text = request.method + " " + request.target + " HTTP/1.1\r\n";
  for (const auto& [name, value] : request.headers.fields()) text += name + ": " + value + "\r\n";
  if (!request.headers.get("host")) text += "host: localhost\r\n";
  if (request.method == "POST" || request.method == "PUT") {
    if (!request.headers.get("content-type")) text += "content-type: application/json\r\n";
    text += "content-length: " + std::to_string(request.body.size()) + "\r\n";
  }
  text += "\r\n" + request.body;
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t sent = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void Client::post(std::string path, std::string body, http::Headers headers) {
  send({.method = "POST",
        .target = std::move(path),
        .headers = std::move(headers),
        .body = std::move(body)});
}

Answer Client::read_head() {
  complete_ = false;
  text_.clear();
  std::size_t end = 0;
  if (!receive_until("\r\n\r\n", end)) return {};
  Answer answer = parse_head(in_.substr(0, end + 2));
  in_.erase(0, end + 4);
  chunked_ = answer.header("transfer-encoding") == "chunked";
  const std::string length = answer.header("content-length");
  length_ = length.empty() ? 0 : std::stoul(length);
  return answer;
}

bool Client::read_chunk() {
  if (complete_) return false;
  if (!chunked_) {  // All of it is one.
    while (in_.size() < length_)
      if (!receive()) return false;
    text_ = in_.substr(0, length_);
    in_.erase(0, length_);
    ++chunks_;
    return complete_ = true;
  }
  std::size_t line_end = 0;
  if (!receive_until("\r\n", line_end)) return false;
  const std::size_t bytes = std::stoul(in_.substr(0, line_end), nullptr, 16);
  const std::size_t whole = line_end + 2 + bytes + 2;
  while (in_.size() < whole)
    if (!receive()) return false;
  text_.append(in_, line_end + 2, bytes);
  in_.erase(0, whole);
  ++chunks_;
  if (bytes == 0) complete_ = true;
  return bytes > 0;
}

Answer Client::read() {
  Answer answer = read_head();
  if (chunked_) {
    while (read_chunk()) {
    }
    answer.body = std::exchange(text_, {});
    answer.complete = complete_;
    return answer;
  }
  while (in_.size() < length_)
    if (!receive()) break;
  answer.body = in_.substr(0, length_);
  in_.erase(0, answer.body.size());
  answer.complete = answer.status != 0 && answer.body.size() == length_;
  return answer;
}

std::optional<std::string> Client::next_event() {
  std::size_t end = text_.find("\n\n");
  while (end == std::string::npos) {
    if (!read_chunk()) return std::nullopt;
    end = text_.find("\n\n");
  }
  std::string event = text_.substr(0, end);
  text_.erase(0, end + 2);
  return event.starts_with("data: ") ? event.substr(6) : event;
}

Answer get(const http::Address& address, std::string path, http::Headers headers) {
  Client client{address};
  client.send({.method = "GET", .target = std::move(path), .headers = std::move(headers)});
  return client.read();
}

Answer post(const http::Address& address,
            std::string path,
            std::string body,
            http::Headers headers) {
  Client client{address};
  client.post(std::move(path), std::move(body), std::move(headers));
  return client.read();
}

Answer put(const http::Address& address, std::string path, std::string body) {
  Client client{address};
  client.send({.method = "PUT", .target = std::move(path), .body = std::move(body)});
  return client.read();
}

http::Headers headers_of(std::initializer_list<std::pair<const char*, const char*>> fields) {
  http::Headers headers;
  for (const auto& [name, value] : fields) headers.add(name, value);
  return headers;
}

}  // namespace mlxs::gateway
