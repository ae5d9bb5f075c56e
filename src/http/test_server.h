#pragma once

#include "http/address.h"
#include "http/server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace mlxs::http {

/// For tests: sends all of `bytes` without raising SIGPIPE; false if the peer has closed or reset,
/// or takes nothing for a minute.
bool send_all(int fd, std::string_view bytes);

/// For tests: a server on port 0 with a loop and a thread of its own.
class TestServer {
 public:
  explicit TestServer(Handler handler, Limits limits = {}, Address address = {.host = "127.0.0.1"});
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  [[nodiscard]] const Address& address() const { return address_; }
  /// Runs `work` on the loop and waits for it.
  template <class Work>
  auto on_loop(Work work) {
    std::packaged_task<decltype(work(*server_))()> task{[&] { return work(*server_); }};
    auto done = task.get_future();
    post([&task] { task(); });
    return done.get();
  }
  [[nodiscard]] ServerStats stats() const { return server_->stats(); }
  /// Spins on the loop's clock until `condition` holds there; false after a minute.
  [[nodiscard]] bool eventually(const std::function<bool(Server&)>& condition);

 private:
  void post(std::function<void()> work);

  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      loop_.get_executor()};
  int listener_ = -1;
  Address address_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

/// For tests: a blocking client that sends and receives exact bytes. Every wait ends after a
/// minute with what has come so far.
class RawClient {
 public:
  explicit RawClient(const Address& address, int receive_buffer = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  /// False if the peer has closed or reset.
  bool send(std::string_view bytes);
  /// Reads until `end` has come; all received so far since the last call, with `end`.
  std::string read_until(std::string_view end);
  /// Reads a head and the body that its content-length announces.
  std::string read_answer();
  /// Reads until the peer closes.
  std::string read_to_end();
  /// Whether the last read ended in a reset.
  [[nodiscard]] bool reset() const { return reset_; }
  void half_close();
  void close();
  /// Closes with a reset.
  void abort();

 private:
  bool receive();

  int fd_ = -1;
  bool reset_ = false;
  std::string in_;
};

/// Sends `body` with status 200. (GCC 12 destroys an aggregate written inside a co_await expression
/// twice, so tests name theirs or call this.)
boost::asio::awaitable<void> reply(Exchange& exchange, std::string body);

/// Body of `answer`, status of its first line.
[[nodiscard]] std::string body_of(const std::string& answer);
[[nodiscard]] int status_of(const std::string& answer);

/// "{code}: {message}" as plain text with the code's status.
[[nodiscard]] Response render_plain(const Error& error);

}  // namespace mlxs::http
