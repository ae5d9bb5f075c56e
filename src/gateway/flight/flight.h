#pragma once

#include "api/events.h"
#include "base/deadline.h"
#include "gateway/cache/answer_store.h"
#include "gateway/cache/epochs.h"
#include "gateway/fleet/table.h"
#include "gateway/flight/log.h"
#include "gateway/settings.h"
#include "gateway/sharing/fingerprint.h"
#include "gateway/stages/admission.h"
#include "gateway/upstream/attempt.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

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
  /// Of a request that nobody can join. A flight that may be shared has none: each subscriber keeps
  /// its own and leaves when it passes, so the flight lasts to the latest of them.
  Deadline deadline;
  SettingsPtr settings;
  std::size_t choices = 1;                    ///< That a complete answer has.
  std::shared_ptr<Admission::Ticket> ticket;  ///< Held to the end of the log.

  // Sharing.
  FingerprintPtr fingerprint;  ///< Null: the flight is private, and its answer is not kept.
  std::string generation;      ///< In the fingerprint: what the worker must be for it to hold.
  Stamp admitted{};            ///< Epochs::now() at admission.
  RefreshClaim refresh;        ///< Held while it fetches a stale answer anew.
  struct {
    Clock::duration dedup_ttl{0};
    Clock::duration prompt_cache_ttl{0};
    Clock::duration grace{0};
  } keep;  ///< As KeptAnswer has them.
};

/// What is known of a flight's way so far, for records and metrics.
struct FlightNotes {
  std::string worker;  ///< The last attempt's.
  int attempts = 0;
  std::optional<TimePoint> sent_at;  ///< When the first attempt went out,
  Clock::duration waited{0};         ///< and how long the flight had been parked by then.
  std::shared_ptr<const ProgressClock> progress;  ///< The worker's; null before the first attempt.
};

/// One generation under way. It owns the attempts and writes the log; clients only read the log.
/// Runs on its loop from `start` until the log ends; subscribers on any loop hold it.
///
/// A worker is picked when one is ready: until then the flight is parked, at most
/// timeouts.worker_wait. An attempt that the worker did not begin to answer is made again, at most
/// twice, on another worker where there is one; never after the first event. These retries are the
/// flight's: its subscribers only see how it ends.
class Flight : public std::enable_shared_from_this<Flight> {
 public:
  static constexpr int kAttemptsMax = 3;

  /// Does nothing until `start`. `context` is that of the flight's loop.
  Flight(LoopContext& context, FlightRequest request);
  ~Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  // On its loop.

  void start();
  /// Ends the flight now, with `why` as its log's error unless the log has ended: the attempt's
  /// connection is closed, so that the worker stops within a step.
  void stop(Error why);
  /// As `stop`, if the current attempt is on `worker`.
  void stop_on(std::string_view worker, Error why);

  // Any thread.

  [[nodiscard]] const Log& log() const { return *log_; }
  [[nodiscard]] std::shared_ptr<const Log> log_ptr() const { return log_; }
  [[nodiscard]] const FingerprintPtr& fingerprint() const { return fingerprint_; }
  [[nodiscard]] Stamp admitted() const { return request_.admitted; }
  [[nodiscard]] const std::string& generation() const { return request_.generation; }
  [[nodiscard]] FlightNotes notes() const;
  /// The last subscriber left. A flight that can be joined (`open`) goes on for timeouts.linger and
  /// ends if nobody came back; any other ends at once.
  void abandon(bool open);

 private:
  friend class FlightTable;
  // Guarded by the table's mutex.
  struct Seat {
    std::size_t subscribers = 0;
    std::size_t subscribers_ever = 0;
    bool open = false;  // in the table
    bool was_open = false;
    bool second = false;  // started because another gave no token in time
    bool keep = false;    // the answer may be kept
  };

  boost::asio::awaitable<void> run(std::shared_ptr<Flight> self);
  boost::asio::awaitable<WorkerPtr> next_worker(std::string avoid);
  boost::asio::awaitable<AttemptEnd> attempt_on(WorkerPtr worker);
  boost::asio::awaitable<AttemptEnd> attempt_over(WorkerPtr worker, bool fresh);
  boost::asio::awaitable<void> wait_on(Signal& signal, TimePoint until);
  boost::asio::awaitable<void> linger(std::shared_ptr<Flight> self);
  [[nodiscard]] std::string upstream_body(const Worker& worker);
  void note_attempt(const Worker& worker);
  void succeed();
  void fail(Error error, std::optional<int> retry_after_s = std::nullopt);
  void keep_answer();
  void landed();

  LoopContext& context_;
  FlightRequest request_;
  const FingerprintPtr fingerprint_;
  const std::shared_ptr<Log> log_;
  bool other_generation_ = false;  // an attempt went to a worker that the fingerprint is not of
  http::ClientConnection* connection_ = nullptr;  // of the attempt under way
  Signal* waiting_on_ = nullptr;
  boost::asio::steady_timer* lingering_ = nullptr;  // while nobody takes part
  mutable std::mutex notes_mutex_;
  FlightNotes notes_;
  Seat seat_;
};
using FlightPtr = std::shared_ptr<Flight>;

}  // namespace mlxs::gateway
