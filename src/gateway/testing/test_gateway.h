#pragma once

#include "gateway/testing/client.h"
#include "gateway/testing/mock_worker.h"
#include "gateway/tuning.h"
#include "http/address.h"

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mlxs::gateway {

class Gateway;

/// An entry of the supervisor's table.
struct NativeEntry {
  std::string id;
  std::string model;
  http::Address address;
  std::string state = "running";
  int pid = 1;
  int restarts = 0;
  std::string error{};
};

/// The whole gateway on a thread of the test, with the test as its supervisor: listeners on port 0
/// and an in-memory control channel. Ends by drain or a closed channel, at the latest on
/// destruction.
class TestGateway {
 public:
  /// How long anything is waited for; against hanging for ever only.
  static constexpr Milliseconds kPatience{60'000};

  /// `yaml` is a configuration; the access log is off and the state folder a temporary one unless
  /// it says otherwise. Returns once the gateway reported ready (or ended).
  explicit TestGateway(const std::string& yaml, const Tuning& tuning = {});
  ~TestGateway();
  TestGateway(const TestGateway&) = delete;
  TestGateway& operator=(const TestGateway&) = delete;

  [[nodiscard]] const http::Address& api() const { return api_; }
  [[nodiscard]] const http::Address& admin() const { return admin_; }
  [[nodiscard]] bool was_ready() const { return was_ready_; }

  void send_config(const std::string& yaml);
  void set_workers(const std::vector<NativeEntry>& workers);
  void drain();
  void send_line(std::string_view line);
  void close_control();
  /// The exit status; waits at most `kPatience`, then -1.
  [[nodiscard]] int wait_exit();

  /// A chat request for model "m" with one message.
  [[nodiscard]] Answer chat(std::string extra = "", http::Headers headers = {});
  /// The API key with which `metric` asks from now on.
  void scrape_with(std::string key) { scrape_key_ = std::move(key); }
  /// A metric's value from /metrics, by its whole series name with labels; -1 if it is not there.
  /// Paced, since it is asked for again and again.
  [[nodiscard]] double metric(const std::string& series) const;
  /// Until the metric reaches `value`; false after `kPatience`.
  [[nodiscard]] bool wait_metric(const std::string& series, double value) const;
  /// Until /ready on the admin listener says so.
  [[nodiscard]] bool wait_ready() const;

 private:
  http::Address api_;
  http::Address admin_;
  int api_fd_ = -1;
  int admin_fd_ = -1;
  int control_ = -1;
  std::filesystem::path state_;
  bool was_ready_ = false;
  std::string scrape_key_;
  std::future<int> exit_;
  std::thread thread_;
};

/// Asks until `condition` holds, paced: each question is a connection, whose port stays taken for
/// a while after it. False after TestGateway::kPatience.
template <class Condition>
[[nodiscard]] bool eventually(Condition condition) {
  const Deadline patience = Deadline::after(TestGateway::kPatience);
  while (!condition()) {
    if (patience.passed()) return false;
    std::this_thread::sleep_for(Milliseconds{1});
  }
  return true;
}

/// For requests that are to have a generation of their own, whatever equal ones run or ran.
inline constexpr const char* kPrivate = R"(,"mlxs":{"cache":"bypass"})";
inline constexpr const char* kPrivateStream = R"(,"stream":true,"mlxs":{"cache":"bypass"})";

/// {"model":"m","messages":[…] EXTRA}: `extra` begins with a comma if not empty.
[[nodiscard]] std::string chat_body(const std::string& extra = "", const std::string& model = "m");
[[nodiscard]] std::string native_yaml(const std::string& more = "");
/// Model "m" on the given URLs.
[[nodiscard]] std::string foreign_yaml(const std::vector<std::string>& urls,
                                       const std::string& more = "");
/// Text of all choice-0 deltas until [DONE] or the end.
[[nodiscard]] std::string read_text(Client& client);

/// A gateway with one native worker behind model "m".
struct NativePair {
  explicit NativePair(const std::string& more = "", const Tuning& tuning = {});
  MockWorker worker;
  TestGateway gateway;
};

}  // namespace mlxs::gateway
