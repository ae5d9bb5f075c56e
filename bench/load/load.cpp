#include "bench/load/load.h"

#include "http/sse.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

namespace mlxs::bench {
namespace {

namespace asio = boost::asio;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kEventBytesMax = 16U << 20;
constexpr Milliseconds kAfterRefusal{50};

Clock::duration seconds(double count) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}
std::int64_t ns(Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}
double in_seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

Load::Load(LoadOptions options) : options_(std::move(options)), plan_(options_.plan) {}

bool Load::more() const {
  return !stopping_ && (options_.requests == 0 || issued_ < options_.requests);
}

Deadline Load::patience() const {
  return Deadline::after(Milliseconds{static_cast<std::int64_t>(options_.timeout * 1e3)});
}

boost::json::object Load::run() {
  read_answers();
  gathered_.expires_at(TimePoint::max());
  gathering_ = options_.users;
  if (options_.rate > 0) {
    ++running_;
    begin_window();
    asio::co_spawn(io_, arrivals(), asio::detached);
  } else {
    running_ = options_.users;
    for (int i = 0; i < options_.users; ++i) asio::co_spawn(io_, user(), asio::detached);
  }
  io_.run();
  write_answers();
  return report();
}

void Load::read_answers() {
  std::ifstream file{options_.answers};
  std::uint64_t prompt = 0;
  std::uint64_t hash = 0;
  while (file >> prompt >> hash) answers_[prompt] = hash;
}

void Load::write_answers() const {
  if (options_.answers.empty() || std::filesystem::exists(options_.answers)) return;
  std::ofstream file{options_.answers};
  for (const auto& [prompt, hash] : answers_) file << prompt << ' ' << hash << '\n';
}

void Load::begin_window() {
  first_sent_ = Clock::now();
  window_start_ = first_sent_ + seconds(options_.warmup);
  asio::co_spawn(io_, clock(), asio::detached);
}

/// Looks at the watched processes at both ends of the window, and ends it when it is timed.
asio::awaitable<void> Load::clock() {
  clock_.expires_at(window_start_);
  co_await clock_.async_wait(kAwait);
  for (const Watched& one : options_.watch) use_before_.push_back(process_use(one.pid));
  if (options_.seconds <= 0 || window_end_ != TimePoint::max()) co_return;
  clock_.expires_at(window_start_ + seconds(options_.seconds));
  co_await clock_.async_wait(kAwait);
  if (window_end_ == TimePoint::max()) end_window();
}

void Load::end_window() {
  stopping_ = true;
  window_end_ = Clock::now();
  for (const Watched& one : options_.watch) use_after_.push_back(process_use(one.pid));
}

asio::awaitable<Result<Load::Connection>> Load::connect() {
  auto connection = std::make_unique<http::ClientConnection>(io_.get_executor(), options_.server);
  const Result<void> connected = co_await connection->connect(patience());
  if (!connected) co_return connected.error();
  co_return connection;
}

asio::awaitable<void> Load::user() {
  Connection connection;
  auto first = co_await connect();
  if (first) connection = std::move(*first);
  if (--gathering_ > 0) {
    co_await gathered_.async_wait(kAwait);
  } else {
    begin_window();
    gathered_.cancel();
  }
  while (more()) {
    Exchange exchange;
    exchange.prompt = plan_.take(issued_++);
    co_await ask(connection, exchange);
    finish(exchange);
    if (exchange.status == 429 || exchange.status == 503) {
      asio::steady_timer pause{io_, kAfterRefusal};
      co_await pause.async_wait(kAwait);
    }
  }
  one_less();
}

void Load::one_less() {
  if (--running_ > 0) return;
  if (window_end_ == TimePoint::max()) end_window();
  idle_.clear();  // What still waits on a timer would keep the loop running.
  clock_.cancel();
}

asio::awaitable<void> Load::arrivals() {
  std::mt19937_64 random{options_.plan.seed};
  std::exponential_distribution<double> gap{options_.rate};
  asio::steady_timer timer{io_};
  TimePoint due = Clock::now();
  while (more()) {
    due += seconds(gap(random));
    timer.expires_at(due);
    co_await timer.async_wait(kAwait);
    if (!more()) break;
    ++running_;
    asio::co_spawn(io_, arrival(due, plan_.take(issued_++)), asio::detached);
  }
  one_less();
}

asio::awaitable<void> Load::arrival(TimePoint due, std::uint64_t prompt) {
  Connection connection;
  if (!idle_.empty()) {
    connection = std::move(idle_.back());
    idle_.pop_back();
  }
  Exchange exchange;
  exchange.prompt = prompt;
  exchange.start = due;  // What a late driver adds is part of the wait, not left out of it.
  co_await ask(connection, exchange);
  finish(exchange);
  if (connection) idle_.push_back(std::move(connection));
  one_less();
}

asio::awaitable<void> Load::ask(Connection& connection, Exchange& exchange) {
  if (!connection || !connection->reusable()) {
    connection.reset();
    auto made = co_await connect();
    if (!made) {
      exchange.start = Clock::now();
      exchange.failure = made.error().message;
      co_return;
    }
    connection = std::move(*made);
  }
  http::Request request;
  request.method = "POST";
  request.target = plan_.target();
  request.headers = options_.headers;
  request.headers.add("content-type", "application/json");
  request.body = plan_.body(exchange.prompt);
  if (exchange.start == TimePoint{}) exchange.start = Clock::now();
  exchange.first = exchange.start;
  const auto head = co_await connection->send(request, patience());
  if (!head) {
    exchange.failure = head.error().message;
    connection.reset();
    co_return;
  }
  exchange.status = head->status;
  if (const auto sharing = head->headers.get("x-mlx-cache")) exchange.sharing = *sharing;
  Result<void> read;
  if (head->status == 200 && options_.plan.stream) {
    read = co_await read_stream(*connection, exchange);
  } else {
    const auto body = co_await connection->read_all(kEventBytesMax, patience());
    if (!body)
      read = body.error();
    else if (head->status == 200 && exchange.answer.take(*body))
      saw_text(exchange, Clock::now());
  }
  exchange.last = Clock::now();
  if (read) co_return;
  exchange.failure = read.error().message;
  connection.reset();
}

asio::awaitable<Result<void>> Load::read_stream(http::ClientConnection& connection,
                                                Exchange& exchange) {
  http::SseReader reader{kEventBytesMax};
  http::SseReader::Event event;
  for (;;) {
    const auto bytes = co_await connection.read_some(patience());
    if (!bytes) co_return bytes.error();
    if (bytes->empty()) co_return Result<void>{};
    const TimePoint now = Clock::now();
    reader.feed(*bytes);
    for (;;) {
      const auto complete = reader.next(event);
      if (!complete) co_return complete.error();
      if (!*complete) break;
      if (exchange.answer.take(event.data)) saw_text(exchange, now);
      exchange.left = exchange.text_frames > 0 && plan_.is_left(exchange.prompt);
      if (exchange.left) co_return fail(ErrorCode::kCancelled, "left");
    }
  }
}

void Load::saw_text(Exchange& exchange, TimePoint now) {
  const bool counts = exchange.start >= window_start_;
  if (now >= window_start_ && now < window_end_) {
    ++frames_;
    ++exchange.window_frames;
  }
  if (exchange.text_frames++ == 0) {
    exchange.first = now;
    if (counts) first_token_.add(ns(now - exchange.start));
    if (counts) first_token_at_.add(ns(now - first_sent_));
  } else if (counts) {
    between_tokens_.add(ns(now - exchange.last));
  }
  exchange.last = now;
}

bool Load::is_right(const Exchange& exchange) {
  switch (options_.check) {
    case Check::kNone:
      return true;
    case Check::kEcho:
      return exchange.answer.beginning().find(plan_.marker(exchange.prompt)) != std::string::npos;
    case Check::kEqual:
      break;
  }
  const auto [entry, fresh] = answers_.emplace(exchange.prompt, exchange.answer.text_hash());
  return fresh || entry->second == exchange.answer.text_hash();
}

double Load::tokens_in_window(const Exchange& exchange) const {
  const double tokens = exchange.answer.completion_tokens();
  if (exchange.text_frames == 0) return 0;
  if (options_.plan.stream) return tokens * exchange.window_frames / exchange.text_frames;
  const double all = std::max(in_seconds(exchange.last - exchange.start), 1e-9);
  const double inside =
      in_seconds(std::min(exchange.last, window_end_) - std::max(exchange.start, window_start_));
  return tokens * std::clamp(inside / all, 0.0, 1.0);
}

void Load::finish(const Exchange& exchange) {
  const TimePoint now = Clock::now();
  const bool complete = exchange.failure.empty() && exchange.status == 200 &&
                        !exchange.answer.failed() && exchange.answer.finished() &&
                        (exchange.answer.done() || !options_.plan.stream);
  const bool right = complete && is_right(exchange);
  if (complete) tokens_ += tokens_in_window(exchange);
  if (now >= window_start_ && now < window_end_) ++in_window_;
  if (exchange.start < window_start_) return;
  if (exchange.left) {
    ++left_;
    return;
  }
  ++counted_;
  if (exchange.status == 429 || exchange.status == 503) {
    ++refused_;
    return;
  }
  if (!complete) {
    std::string why = exchange.failure;
    if (why.empty() && exchange.status != 200) why = fmt::format("status {}", exchange.status);
    if (why.empty()) why = exchange.answer.failed() ? "an error event" : "a truncated answer";
    ++failures_[why];
    return;
  }
  if (right)
    ++succeeded_;
  else
    ++wrong_;
  whole_.add(ns(exchange.last - exchange.start));
  prompt_tokens_ += static_cast<std::uint64_t>(exchange.answer.prompt_tokens());
  completion_tokens_ += static_cast<std::uint64_t>(exchange.answer.completion_tokens());
  if (!exchange.sharing.empty()) ++sharing_[exchange.sharing];
}

}  // namespace mlxs::bench
