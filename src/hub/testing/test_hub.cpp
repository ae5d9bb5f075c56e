#include "hub/testing/test_hub.h"

#include "hub/content_hash.h"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <random>
#include <utility>

namespace mlxs::hub {
namespace {

namespace json = boost::json;

std::string read_head(int fd) {
  std::string head;
  char bytes[4096];
  while (head.find("\r\n\r\n") == std::string::npos) {
    const ssize_t count = ::recv(fd, bytes, sizeof(bytes), 0);
    if (count <= 0) return {};
    head.append(bytes, static_cast<std::size_t>(count));
  }
  return head;
}

Asked parse_head(const std::string& head) {
  Asked asked;
  const std::size_t space = head.find(' ');
  asked.method = head.substr(0, space);
  asked.target = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
  for (std::size_t at = head.find("\r\n") + 2; head[at] != '\r';) {
    const std::size_t end = head.find("\r\n", at);
    const std::size_t colon = head.find(':', at);
    std::string name = head.substr(at, colon - at);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    asked.headers[name] = head.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  return asked;
}

/// `content` with ranges, as an object store serves it.
std::string ranged(const Asked& asked, const std::string& content, const std::string& etag) {
  const std::string quoted = "\"" + etag + "\"";
  const std::string tag = "ETag: " + quoted + "\r\n";
  const std::string range = asked.header("range");
  const std::string condition = asked.header("if-range");
  if (range.empty() || (!condition.empty() && condition != quoted))
    return answer(200, content, tag);
  const std::size_t first = std::stoull(range.substr(std::string{"bytes="}.size()));
  if (first >= content.size()) return answer(416);
  return answer(
      206,
      content.substr(first),
      fmt::format(
          "{}Content-Range: bytes {}-{}/{}\r\n", tag, first, content.size() - 1, content.size()));
}

}  // namespace

std::string Asked::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string{} : found->second;
}

RawServer::RawServer(Answer answer) : answer_(std::move(answer)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  ::sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  ::bind(listener_, reinterpret_cast<::sockaddr*>(&address), sizeof(address));
  ::listen(listener_, 64);
  ::socklen_t size = sizeof(address);
  ::getsockname(listener_, reinterpret_cast<::sockaddr*>(&address), &size);
  port_ = ::ntohs(address.sin_port);
  thread_ = std::thread{[this] { accept_all(); }};
}

RawServer::~RawServer() {
  ::shutdown(listener_, SHUT_RDWR);
  thread_.join();
  ::close(listener_);
  for (std::thread& connection : connections_) connection.join();
}

void RawServer::accept_all() {
  while (true) {
    const int fd = ::accept(listener_, nullptr, nullptr);
    if (fd < 0) return;
    connections_.emplace_back([this, fd] { serve(fd); });
  }
}

void RawServer::serve(int fd) {
  const std::string head = read_head(fd);
  if (!head.empty()) {
    const int now = ++now_;
    for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) {
    }
    const Asked asked = parse_head(head);
    {
      const std::lock_guard lock{mutex_};
      asked_.push_back(asked);
    }
    std::string bytes = answer_(asked);
    if (asked.method == "HEAD") bytes.resize(std::min(bytes.size(), bytes.find("\r\n\r\n") + 4));
    for (std::string_view left = bytes; !left.empty();) {
      const ssize_t count = ::send(fd, left.data(), left.size(), MSG_NOSIGNAL);
      if (count <= 0) break;
      left.remove_prefix(static_cast<std::size_t>(count));
    }
    --now_;
  }
  ::close(fd);
}

std::string RawServer::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

std::vector<Asked> RawServer::asked() const {
  const std::lock_guard lock{mutex_};
  return asked_;
}

std::vector<Asked> RawServer::asked(std::string_view part) const {
  std::vector<Asked> found;
  for (Asked& one : asked()) {
    if (one.target.find(part) != std::string::npos) found.push_back(std::move(one));
  }
  return found;
}

std::string answer(int status, std::string_view body, std::string_view headers) {
  return fmt::format("HTTP/1.1 {} Whatever\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
                     status,
                     body.size(),
                     headers,
                     body);
}

std::string TestFile::etag() const {
  ContentHash hash{std::string(large ? 64 : 40, '0'), content.size()};
  hash.add(content);
  return hash.finish();
}

TestHub::TestHub(std::map<std::string, TestFile> files)
    : files_(std::move(files)),
      storage_(std::make_unique<RawServer>([this](const Asked& asked) {
        std::string bytes = at_storage(asked);
        std::unique_lock lock{mutex_};
        const Meddle meddle = storage_meddle_;
        lock.unlock();
        return meddle ? meddle(asked, std::move(bytes)) : bytes;
      })),
      hub_(std::make_unique<RawServer>([this](const Asked& asked) {
        std::string bytes = at_hub(asked);
        std::unique_lock lock{mutex_};
        const Meddle meddle = hub_meddle_;
        lock.unlock();
        return meddle ? meddle(asked, std::move(bytes)) : bytes;
      })) {}

void TestHub::meddle_with_hub(Meddle meddle) {
  const std::lock_guard lock{mutex_};
  hub_meddle_ = std::move(meddle);
}

void TestHub::meddle_with_storage(Meddle meddle) {
  const std::lock_guard lock{mutex_};
  storage_meddle_ = std::move(meddle);
}

void TestHub::replace(const std::string& path, TestFile file) {
  const std::lock_guard lock{mutex_};
  files_[path] = std::move(file);
}

std::map<std::string, TestFile> TestHub::files() const {
  const std::lock_guard lock{mutex_};
  return files_;
}

std::string TestHub::listing() const {
  json::array siblings;
  for (const auto& [path, file] : files()) {
    json::object sibling{{"rfilename", path}};
    if (!names_only_) {
      sibling["size"] = file.content.size();
      sibling["blobId"] = TestFile{file.content, false}.etag();
      if (file.large)
        sibling["lfs"] = json::object{{"sha256", file.etag()}, {"size", file.content.size()}};
    }
    siblings.push_back(std::move(sibling));
  }
  return json::serialize(
      json::object{{"id", "org/name"}, {"sha", kCommit}, {"siblings", std::move(siblings)}});
}

std::string TestHub::at_hub(const Asked& asked) const {
  constexpr std::string_view kList = "/api/models/org/name/revision/";
  const std::string resolve = fmt::format("/org/name/resolve/{}/", kCommit);
  if (asked.target.starts_with(kList)) return answer(200, listing());
  const auto all = files();
  const auto found =
      asked.target.starts_with(resolve) ? all.find(asked.target.substr(resolve.size())) : all.end();
  if (found == all.end()) return answer(404, {}, "X-Error-Code: RepoNotFound\r\n");
  const TestFile& file = found->second;
  if (!file.large) return ranged(asked, file.content, file.etag());
  return answer(302,
                "moved",
                fmt::format("Location: {}/{}?Signature=secret\r\nX-Repo-Commit: {}\r\n"
                            "X-Linked-Etag: \"{}\"\r\nX-Linked-Size: {}\r\n",
                            storage_->url(),
                            found->first,
                            kCommit,
                            file.etag(),
                            file.content.size()));
}

std::string TestHub::at_storage(const Asked& asked) const {
  const auto all = files();
  const auto found = all.find(asked.target.substr(1, asked.target.find('?') - 1));
  if (found == all.end()) return answer(404);
  // A store's own ETag, which is no hash that we know.
  return ranged(asked, found->second.content, "of-the-store-" + found->second.etag().substr(0, 8));
}

std::string noise(std::size_t size, unsigned seed) {
  std::minstd_rand generator{seed};
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(generator() >> 8);
  return bytes;
}

std::map<std::string, TestFile> sharded_model() {
  return {
      {"README.md", {"# a model", false}},
      {".gitattributes", {"*.safetensors filter=lfs", false}},
      {"config.json", {R"({"model_type":"llama"})", false}},
      {"generation_config.json", {"{}", false}},
      {"tokenizer.json", {noise(30'000, 1), true}},
      {"tokenizer_config.json", {"{}", false}},
      {"chat_template.jinja", {"{{ messages }}", false}},
      {"model.safetensors.index.json",
       {R"({"weight_map":{"a":"model-00001-of-00002.safetensors",)"
        R"("b":"model-00002-of-00002.safetensors"}})",
        false}},
      {"model-00001-of-00002.safetensors", {noise(200'000, 2), true}},
      {"model-00002-of-00002.safetensors", {noise(100'000, 3), true}},
      {"consolidated.safetensors", {noise(1000, 4), true}},
      {"pytorch_model.bin", {noise(1000, 5), true}},
      {"name.Q4_1.gguf", {noise(50'000, 6), true}},
      {"original/config.json", {"{}", false}},
  };
}

}  // namespace mlxs::hub
