#pragma once

#include "http/address.h"
#include "http/message.h"
#include "http/server.h"

#include <boost/json/object.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::gateway {

/// One thing that a scripted worker does while it answers.
struct Step {
  enum class Kind { kBytes, kGate, kCut, kHang, kAnswer };
  Kind kind = Kind::kBytes;
  std::string text;         // kBytes: what goes out; kGate: its name
  http::Response answer{};  // kAnswer
};
using Script = std::vector<Step>;

namespace script {
/// A chat chunk with one token of text for choice 0, and its id in `mlxs`.
[[nodiscard]] Step token(std::string text, int id = 1, int choice = 0);
/// A completions chunk.
[[nodiscard]] Step completion_token(std::string text);
[[nodiscard]] Step finish(std::string reason = "stop", int choice = 0);
[[nodiscard]] Step usage(int prompt, int completion);
[[nodiscard]] Step done();
/// An event with exactly `data`.
[[nodiscard]] Step event(std::string data);
/// Exactly these bytes.
[[nodiscard]] Step raw(std::string bytes);
/// Waits until the test opens `name`.
[[nodiscard]] Step gate(std::string name);
/// Breaks the connection inside the stream, as a worker does that dies.
[[nodiscard]] Step cut();
/// Says nothing more until the client leaves.
[[nodiscard]] Step hang();
/// Answers whole; nothing but gates before it.
[[nodiscard]] Step answer(int status, std::string body, http::Headers headers = {});
/// tokens, finish "stop", usage of `tokens.size()`, [DONE].
[[nodiscard]] Script hello(std::vector<std::string> tokens = {"Hello", " world"});
}  // namespace script

/// A worker that says what a test tells it to, over real sockets, on a thread of its own: the
/// OpenAI routes, `/internal/state`, `/v1/models`. Every wait of its methods ends after a minute
/// with a failed result. Members from the test's thread.
class MockWorker {
 public:
  explicit MockWorker(http::Address address = {.host = "127.0.0.1"});
  ~MockWorker();
  MockWorker(const MockWorker&) = delete;
  MockWorker& operator=(const MockWorker&) = delete;

  [[nodiscard]] const http::Address& address() const;
  [[nodiscard]] std::string url() const { return "http://" + address().to_string() + "/v1"; }

  /// What every request without an enqueued script gets; `hello()` at first.
  void set_script(Script script);
  /// For the next request only.
  void enqueue(Script script);
  /// Lets everyone pass who waits at gate `name`, now and later.
  void open(const std::string& name);
  /// Sends a new state on all state streams; {"ready":true,…} at first.
  void set_state(boost::json::object state);
  /// Status of GET /v1/models.
  void set_models_status(int status);

  /// Ends as a killed process does: every connection breaks, and the listener, which belongs to the
  /// supervisor, keeps taking connections that nobody answers.
  void kill();
  /// A new process on the same listener.
  void restart();

  /// Generation requests that have come, in order; waits for the nth (from 1).
  [[nodiscard]] http::Request request(std::size_t n);
  [[nodiscard]] std::size_t requests() const;
  /// Probes and others that are no generation, by target.
  [[nodiscard]] std::size_t others(const std::string& target) const;
  /// Waits until `n` generation requests were cancelled by their client.
  [[nodiscard]] bool wait_cancelled(std::size_t n);
  [[nodiscard]] bool wait_state_streams(std::size_t n);
  /// Connections accepted since the start, over all incarnations.
  [[nodiscard]] std::uint64_t connections_accepted() const;
  [[nodiscard]] std::uint64_t connections_open() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxs::gateway
