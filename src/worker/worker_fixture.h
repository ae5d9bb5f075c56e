#pragma once

#include "http/client.h"
#include "http/sse.h"
#include "tests/fake_worker/fake_model.h"
#include "worker/app.h"
#include "worker/options.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/value.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mlxs::worker {

/// A worker over the fake model on a thread of its own, behind a real socket.
class RunningWorker {
 public:
  explicit RunningWorker(fake::ModelKnobs knobs = {}, Options options = {});
  ~RunningWorker();
  RunningWorker(const RunningWorker&) = delete;
  RunningWorker& operator=(const RunningWorker&) = delete;

  [[nodiscard]] const http::Address& address() const { return address_; }
  [[nodiscard]] App& app() { return *app_; }
  /// Waits until the model is loaded.
  void wait_ready();
  /// Waits until `run` returns; its code.
  int wait_end();

 private:
  std::unique_ptr<App> app_;
  http::Address address_;
  std::thread thread_;
  int code_ = -1;
};

/// Holds the engine inside a step until told to go on. Any thread.
class Gate {
 public:
  void close();
  void open();
  /// Lets `steps` more steps pass, then closes.
  void close_after(int steps);
  /// For ModelKnobs::before_step.
  void pass();
  /// Waits until the engine stands before the closed gate.
  void wait_held();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  bool held_ = false;
  int passes_left_ = -1;  // before it closes of itself; -1: it does not
};

using Fields = std::vector<std::pair<std::string, std::string>>;

/// One request on a connection of its own.
[[nodiscard]] http::Response request(const http::Address& address,
                                     std::string method,
                                     std::string target,
                                     std::string body = {},
                                     const Fields& headers = {});
[[nodiscard]] http::Response post(const RunningWorker& worker,
                                  std::string target,
                                  std::string_view body,
                                  const Fields& headers = {});
[[nodiscard]] http::Response get(const RunningWorker& worker, std::string target);
[[nodiscard]] boost::json::value json_of(const http::Response& response);
/// error.code and error.param as "code param".
[[nodiscard]] std::string error_of(const http::Response& response);

/// A streamed answer, read event by event with blocking calls. Destroying it is what a client that
/// leaves does.
class EventStream {
 public:
  EventStream(const http::Address& address,
              std::string method,
              std::string target,
              std::string body = {},
              const Fields& headers = {});
  ~EventStream();

  [[nodiscard]] int status() const { return head_.status; }
  [[nodiscard]] const http::Headers& headers() const { return head_.headers; }
  /// Data of the next event; nothing at the end of a body that ended as it should.
  [[nodiscard]] std::optional<std::string> next();
  /// Everything that is left.
  [[nodiscard]] std::vector<std::string> rest();

 private:
  boost::asio::io_context loop_{1};
  http::ClientConnection connection_;
  http::ResponseHead head_;
  http::SseReader reader_{1 << 20};
};

/// Text that these chunks add up to, of either surface.
[[nodiscard]] std::string text_of(const std::vector<std::string>& events);

/// Waits, looking now and then, until `condition` holds; false after a minute.
[[nodiscard]] bool eventually(const std::function<bool()>& condition);

}  // namespace mlxs::worker
