#include "gateway/flight/flight.h"

#include "base/ids.h"
#include "gateway/loop_context.h"
#include "gateway/sharing/flight_table.h"
#include "http/message.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

// Backstop only: a native worker before its first token is judged by its step counter.
constexpr Milliseconds kNativeFirstEventMax{3'600'000};
constexpr Milliseconds kRetryStep{25};
// With "nothing ready": about what a worker's start takes.
constexpr int kUnavailableRetryS = 5;

void make_upstream(json::object& body, bool native) {
  body["stream"] = true;
  json::value& options = body["stream_options"];
  if (!options.is_object()) options = json::object{};
  options.as_object()["include_usage"] = true;
  if (!native) return;
  json::value& extension = body["mlxs"];
  if (!extension.is_object()) extension = json::object{};
  extension.as_object().erase("cache");  // was for us
  extension.as_object()["token_ids"] = true;
  if (!extension.as_object().contains("seed")) extension.as_object()["seed"] = random_u64();
}

api::AnswerHead answer_head(const FlightRequest& request) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {.surface = request.surface,
          .id = random_id(request.surface == api::Surface::kChat ? "chatcmpl-" : "cmpl-"),
          .created = std::chrono::duration_cast<std::chrono::seconds>(now).count(),
          .model = request.model};
}

class InFlight {
 public:
  explicit InFlight(const Worker& worker) : counter_(worker.in_flight) {
    counter_->fetch_add(1, std::memory_order_relaxed);
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() { counter_->fetch_sub(1, std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<int>> counter_;
};

}  // namespace

Flight::Flight(LoopContext& context, FlightRequest request)
    : context_(context),
      request_(std::move(request)),
      fingerprint_(request_.fingerprint),
      log_(std::make_shared<Log>(answer_head(request_),
                                 request_.settings->config.limits.answer_bytes)) {}

Flight::~Flight() = default;

void Flight::start() {
  make_upstream(request_.body, request_.native);
  context_.flights.insert(this);
  auto flight = shared_from_this();
  asio::co_spawn(context_.io, run(flight), [flight](std::exception_ptr thrown) {
    if (thrown) {
      try {
        std::rethrow_exception(thrown);
      } catch (const std::exception& exception) {
        spdlog::error("flight of request {}: {}", flight->request_.request_id, exception.what());
      }
      flight->fail({ErrorCode::kInternal, "[flight] internal error"});
    }
    flight->context_.flights.erase(flight.get());
  });
}

FlightNotes Flight::notes() const {
  const std::lock_guard lock{notes_mutex_};
  return notes_;
}

void Flight::note_attempt(const Worker& worker) {
  const std::lock_guard lock{notes_mutex_};
  notes_.worker = worker.id;
  notes_.progress = worker.progress;
  ++notes_.attempts;
}

void Flight::stop(Error why) {
  fail(std::move(why));
  if (connection_ != nullptr) connection_->close();
  if (waiting_on_ != nullptr) waiting_on_->notify();
}

void Flight::stop_on(std::string_view worker, Error why) {
  if (connection_ != nullptr && notes_.worker == worker) stop(std::move(why));
}

void Flight::abandon(bool open) {
  asio::dispatch(context_.io, [self = shared_from_this(), open] {
    if (self->log_->ended()) return;
    if (!open) return self->stop({ErrorCode::kCancelled, "[client] left"});
    if (self->lingering_ != nullptr) return;
    asio::co_spawn(self->context_.io, self->linger(self), asio::detached);
  });
}

asio::awaitable<void> Flight::linger(FlightPtr self) {
  asio::steady_timer timer{context_.io, request_.settings->config.timeouts.linger};
  self->lingering_ = &timer;
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  self->lingering_ = nullptr;
  if (log_->ended()) co_return;
  if (context_.shared.flights.close_if_empty(*this))
    stop({ErrorCode::kCancelled, "[client] everyone left"});
}

void Flight::succeed() {
  if (log_->ended()) return;
  log_->publish();
  if (fingerprint_) keep_answer();
  // Only now, so that an equal request finds either the flight or what is kept of it.
  context_.shared.flights.close(*this);
  log_->finish();
  landed();
}

void Flight::keep_answer() {
  if (request_.keep.dedup_ttl.count() == 0 && request_.keep.prompt_cache_ttl.count() == 0) return;
  if (other_generation_ || !log_->complete(request_.choices)) return;
  if (log_->bytes() > request_.settings->config.limits.flight_log_bytes) return;
  if (!context_.shared.flights.keeps(*this)) return;
  const TimePoint now = Clock::now();
  context_.shared.answers.insert({.fingerprint = fingerprint_,
                                  .answer = log_->sealed(),
                                  .admitted = request_.admitted,
                                  .completed = now,
                                  .dedup_ttl = request_.keep.dedup_ttl,
                                  .prompt_cache_ttl = request_.keep.prompt_cache_ttl,
                                  .grace = request_.keep.grace},
                                 now);
}

void Flight::fail(Error error, std::optional<int> retry_after_s) {
  if (log_->ended()) return;
  context_.shared.flights.close(*this);
  log_->fail(std::move(error), retry_after_s);
  landed();
}

void Flight::landed() {
  request_.ticket = nullptr;
  request_.refresh = {};
  if (lingering_ != nullptr) lingering_->cancel();
  const std::size_t group = context_.shared.flights.subscribers_ever(*this);
  if (group > 0) context_.shared.metrics.coalesce_subscribers.observe(static_cast<double>(group));
}

asio::awaitable<void> Flight::run(FlightPtr /*self: kept to its end*/) {
  std::string avoid;
  for (int attempt = 1; !log_->ended(); ++attempt) {
    WorkerPtr worker = co_await next_worker(avoid);
    if (!worker) co_return;
    note_attempt(*worker);
    if (fingerprint_ && worker->native && worker->generation != request_.generation) {
      // Another build of the model answers than the one that requests were compared for.
      other_generation_ = true;
      context_.shared.flights.close(*this);
    }
    const AttemptEnd end = co_await attempt_on(worker);
    const bool cancelled = log_->error() && log_->error()->code == ErrorCode::kCancelled;
    context_.metrics.attempt(worker->id,
                             cancelled       ? "cancelled"
                             : log_->error() ? error_info(log_->error()->code).label
                             : end.error     ? error_info(end.error->code).label
                                             : "ok");
    if (log_->ended()) co_return;
    if (!end.not_started || attempt == kAttemptsMax) {
      std::optional<int> retry_after_s = end.retry_after_s;
      if (!retry_after_s && end.error->code == ErrorCode::kUnavailable)
        retry_after_s = kUnavailableRetryS;
      Error error = *end.error;
      // "Cancelled" means that our client left; a worker that says it of itself gave up.
      if (error.code == ErrorCode::kCancelled) error.code = ErrorCode::kWorkerLost;
      fail(std::move(error), retry_after_s);
      co_return;
    }
    spdlog::debug("request {}: attempt {} on {} did not start: {}",
                  request_.request_id,
                  attempt,
                  worker->id,
                  end.error->message);
    avoid = worker->id;
    // Full jitter, and on at once when the fleet says something new: usually that the worker died.
    const auto step = static_cast<std::uint64_t>((kRetryStep * (1 << attempt)).count());
    co_await wait_on(
        context_.fleet_changed,
        Clock::now() + Milliseconds{static_cast<Milliseconds::rep>(random_u64() % (step + 1))});
  }
}

asio::awaitable<WorkerPtr> Flight::next_worker(std::string avoid) {
  const Deadline give_up = Deadline::sooner(
      request_.deadline, Deadline::after(request_.settings->config.timeouts.worker_wait));
  while (!log_->ended()) {
    const ModelWorkers* workers = context_.fleet->find(request_.model);
    if (workers != nullptr && !workers->ready.empty())
      co_return context_.shared.round_robin.pick(request_.model, workers->ready, avoid);
    if (workers != nullptr && workers->failed) {
      fail({ErrorCode::kModelLoadFailed,
            fmt::format("[route] model \"{}\" cannot be served: {}",
                        request_.model,
                        workers->failure.empty() ? "its workers failed" : workers->failure)});
    } else if (request_.deadline.passed()) {
      fail({ErrorCode::kDeadlineExceeded, "[route] the deadline passed before a worker was ready"});
    } else if (give_up.passed()) {
      fail({ErrorCode::kUnavailable,
            fmt::format("[route] no worker of model \"{}\" became ready in {} ms",
                        request_.model,
                        request_.settings->config.timeouts.worker_wait.count())},
           kUnavailableRetryS);
    } else {
      co_await wait_on(context_.fleet_changed, give_up.when());
    }
  }
  co_return nullptr;
}

asio::awaitable<AttemptEnd> Flight::attempt_on(WorkerPtr worker) {
  const InFlight counted{*worker};
  AttemptEnd end = co_await attempt_over(worker, false);
  // A pooled connection that the worker had closed meanwhile is replaced without anyone noticing.
  if (end.connection_lost && !log_->ended()) end = co_await attempt_over(worker, true);
  co_return end;
}

asio::awaitable<AttemptEnd> Flight::attempt_over(WorkerPtr worker, bool fresh) {
  const config::Config& config = request_.settings->config;
  const Deadline give_up =
      Deadline::sooner(request_.deadline, Deadline::after(config.timeouts.worker_wait));
  const std::shared_ptr<Pool> pool = context_.pools.find(worker->id);
  if (!pool)
    co_return AttemptEnd{.error = Error{ErrorCode::kWorkerLost, "[pool] the worker left the fleet"},
                         .not_started = true};
  std::optional<Lease> lease;
  for (;;) {
    if (auto taken = pool->try_lease(fresh)) {
      lease.emplace(std::move(*taken));
      break;
    }
    if (give_up.passed())
      co_return AttemptEnd{
          .error = Error{ErrorCode::kOverloaded, "[pool] all connections to the worker are in use"},
          .retry_after_s = kUnavailableRetryS};
    co_await wait_on(pool->returned(), give_up.when());
    if (log_->ended()) co_return AttemptEnd{};
  }
  http::ClientConnection& connection = lease->connection();
  // `stop` closes the connection through this pointer, whatever the coroutine waits for below.
  struct Current {
    http::ClientConnection*& slot;
    ~Current() { slot = nullptr; }
  } current{connection_};
  connection_ = &connection;

  const bool reused = lease->connected();
  if (!reused) {
    auto connected = co_await connection.connect(
        Deadline::sooner(request_.deadline, Deadline::after(config.timeouts.connect)));
    if (log_->ended()) co_return AttemptEnd{};
    if (!connected)
      co_return AttemptEnd{.error = Error{ErrorCode::kWorkerLost, connected.error().message},
                           .not_started = true};
  }
  http::Request upstream;
  upstream.method = "POST";
  upstream.target =
      worker->base_path +
      (request_.surface == api::Surface::kChat ? "/chat/completions" : "/completions");
  upstream.headers.add("content-type", "application/json");
  upstream.headers.add("accept", "text/event-stream");
  upstream.headers.add("x-request-id", request_.request_id);
  if (!request_.traceparent.empty()) upstream.headers.add("traceparent", request_.traceparent);
  if (!request_.tracestate.empty()) upstream.headers.add("tracestate", request_.tracestate);
  if (const auto left = request_.deadline.left())
    upstream.headers.add("x-request-timeout-ms", std::to_string(left->count()));
  upstream.body = upstream_body(*worker);
  if (!notes_.sent_at) {
    const std::lock_guard lock{notes_mutex_};
    notes_.sent_at = Clock::now();
  }

  const AttemptRules rules{
      .surface = request_.surface,
      .native = request_.native,
      .deadline = request_.deadline,
      .first_event = request_.native ? kNativeFirstEventMax : config.timeouts.first_token,
      .token = config.timeouts.token,
      .answer_bytes = config.limits.answer_bytes};
  std::function<void()> begun = [this] { request_.body = {}; };
  AttemptEnd end =
      co_await run_attempt(connection, std::move(upstream), rules, *log_, std::move(begun));
  end.connection_lost = end.connection_lost && reused;
  if (end.error || log_->ended()) co_return end;
  succeed();
  co_await settle(connection);
  co_return end;
}

asio::awaitable<void> Flight::wait_on(Signal& signal, TimePoint until) {
  const TimePoint began = Clock::now();
  waiting_on_ = &signal;
  co_await signal.wait(until);
  waiting_on_ = nullptr;
  if (notes_.sent_at) co_return;
  const std::lock_guard lock{notes_mutex_};
  notes_.waited += Clock::now() - began;
}

std::string Flight::upstream_body(const Worker& worker) {
  request_.body["model"] = worker.upstream_model;
  return json::serialize(request_.body);
}

}  // namespace mlxs::gateway
