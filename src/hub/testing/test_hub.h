#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mlxs::hub {

/// A request as a TestServer got it.
struct Asked {
  std::string method;
  std::string target;
  std::map<std::string, std::string, std::less<>> headers;  ///< Lower case.
  [[nodiscard]] std::string header(std::string_view name) const;
};

/// For tests: answers each connection's one request with exact bytes, then closes it, so that an
/// answer can be cut anywhere. A thread a connection.
class RawServer {
 public:
  using Answer = std::function<std::string(const Asked&)>;
  explicit RawServer(Answer answer);
  ~RawServer();
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  [[nodiscard]] std::string url() const;  ///< "http://127.0.0.1:PORT"
  [[nodiscard]] std::vector<Asked> asked() const;
  /// Those whose target has `part`.
  [[nodiscard]] std::vector<Asked> asked(std::string_view part) const;
  /// Most requests that were being answered at the same time.
  [[nodiscard]] int most_at_once() const { return most_; }

 private:
  void accept_all();
  void serve(int fd);

  Answer answer_;
  int listener_ = -1;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<Asked> asked_;
  std::vector<std::thread> connections_;
  std::atomic<int> now_{0};
  std::atomic<int> most_{0};
  std::thread thread_;
};

/// An answer's bytes; `headers` are whole lines. Content-length is that of `body`.
[[nodiscard]] std::string answer(int status,
                                 std::string_view body = {},
                                 std::string_view headers = {});

struct TestFile {
  std::string content;
  bool large = true;  ///< Kept in storage of its own and named by its SHA-256.
  [[nodiscard]] std::string etag() const;
};

/// For tests: a hub with one repository, "org/name", and its storage, which is another host.
class TestHub {
 public:
  static constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";
  /// Changes an answer before it is sent. Any thread.
  using Meddle = std::function<std::string(const Asked&, std::string)>;

  explicit TestHub(std::map<std::string, TestFile> files);

  void meddle_with_hub(Meddle meddle);
  void meddle_with_storage(Meddle meddle);
  void replace(const std::string& path, TestFile file);
  /// The list of files says neither sizes nor hashes.
  void list_names_only() { names_only_ = true; }

  RawServer& hub() { return *hub_; }
  RawServer& storage() { return *storage_; }

  [[nodiscard]] std::map<std::string, TestFile> files() const;

 private:
  [[nodiscard]] std::string at_hub(const Asked& asked) const;
  [[nodiscard]] std::string at_storage(const Asked& asked) const;
  [[nodiscard]] std::string listing() const;

  mutable std::mutex mutex_;
  std::map<std::string, TestFile> files_;
  Meddle hub_meddle_;
  Meddle storage_meddle_;
  std::atomic<bool> names_only_{false};
  std::unique_ptr<RawServer> storage_;
  std::unique_ptr<RawServer> hub_;
};

/// The files of a small model in two shards, and some that nobody needs.
[[nodiscard]] std::map<std::string, TestFile> sharded_model();
/// As many different bytes.
[[nodiscard]] std::string noise(std::size_t size, unsigned seed);

}  // namespace mlxs::hub
