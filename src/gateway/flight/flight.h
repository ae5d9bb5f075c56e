#pragma once

#include "api/events.h"
#include "base/deadline.h"
#include "gateway/fleet/table.h"
#include "gateway/flight/log.h"
#include "gateway/settings.h"
#include "gateway/upstream/attempt.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace mlxs::http {
class ClientConnection;
}

namespace mlxs::gateway {

struct LoopContext;
class Signal;

/// What a flight generates, and how long it may take.
struct FlightRequest {
  api::Surface surface = api::Surface::kChat;
  std::string model;
  bool native = true;
  /// The request's body; made into an upstream one by `start`: always streamed, usage included, and
  /// for native workers with `mlxs` (token ids, and a seed drawn here where the request has none).
  boost::json::object body;
  std::string request_id;
  std::string traceparent;  ///< Passed through; empty if none.
  std::string tracestate;
  Deadline deadline;
  SettingsPtr settings;
};

/// One generation under way. It owns the attempts and the log; clients only read the log. Runs on
/// its loop, from `start` until the log ends; holding the pointer keeps the log readable.
///
/// A worker is picked when one is ready: until then the flight is parked, at most
/// timeouts.worker_wait. An attempt that the worker did not begin to answer is made again, at most
/// twice, on another worker where there is one; never after the first event.
class Flight : public std::enable_shared_from_this<Flight> {
 public:
  static constexpr int kAttemptsMax = 3;

  [[nodiscard]] static std::shared_ptr<Flight> start(LoopContext& context, FlightRequest request);
  Flight(LoopContext& context, FlightRequest request);
  ~Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  [[nodiscard]] const Log& log() const { return log_; }
  [[nodiscard]] Log& log() { return log_; }

  /// Ends the flight now, with `why` as its log's error unless the log has ended: the attempt's
  /// connection is closed, so that the worker stops within a step.
  void stop(Error why);
  /// As `stop`, if the current attempt is on `worker`.
  void stop_on(std::string_view worker, Error why);

  // For records and metrics.
  [[nodiscard]] const std::string& worker_id() const { return worker_id_; }  ///< The last one's.
  [[nodiscard]] int attempts() const { return attempts_; }
  /// When the first attempt went out, and how long the flight had been parked by then.
  [[nodiscard]] std::optional<TimePoint> sent_at() const { return sent_at_; }
  [[nodiscard]] Clock::duration waited() const { return waited_; }
  /// With an error that asks for a retry later.
  [[nodiscard]] std::optional<int> retry_after_s() const { return retry_after_s_; }

 private:
  boost::asio::awaitable<void> run(std::shared_ptr<Flight> self);
  boost::asio::awaitable<WorkerPtr> next_worker(std::string avoid);
  boost::asio::awaitable<AttemptEnd> attempt_on(WorkerPtr worker);
  boost::asio::awaitable<AttemptEnd> attempt_over(WorkerPtr worker, bool fresh);
  boost::asio::awaitable<void> wait_on(Signal& signal, TimePoint until);
  [[nodiscard]] std::string upstream_body(const Worker& worker);
  void fail(Error error, std::optional<int> retry_after_s = std::nullopt);

  LoopContext& context_;
  FlightRequest request_;
  Log log_;
  std::string worker_id_;
  int attempts_ = 0;
  std::optional<TimePoint> sent_at_;
  Clock::duration waited_{0};
  std::optional<int> retry_after_s_;
  http::ClientConnection* connection_ = nullptr;  // of the attempt under way
  Signal* waiting_on_ = nullptr;
};
using FlightPtr = std::shared_ptr<Flight>;

}  // namespace mlxs::gateway
