#include "gateway/testing/mock_worker.h"

#include "api/errors.h"
#include "base/assert.h"
#include "base/deadline.h"
#include "gateway/loop_signal.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

constexpr Milliseconds kPatience{60'000};

std::string sse(const json::value& value) { return "data: " + json::serialize(value) + "\n\n"; }

json::object chunk(json::array choices, const char* object = "chat.completion.chunk") {
  json::object result;
  result["id"] = "upstream";
  result["object"] = object;
  result["created"] = 1;
  result["model"] = "upstream-model";
  result["choices"] = std::move(choices);
  return result;
}

}  // namespace

namespace script {

Step token(std::string text, int id, int choice) {
  json::object delta;
  delta["content"] = text;
  json::object entry;
  entry["index"] = choice;
  entry["delta"] = std::move(delta);
  entry["finish_reason"] = nullptr;
  json::object extension;
  extension["token_ids"] = json::array{id};
  json::object value = chunk(json::array{std::move(entry)});
  value["mlxs"] = std::move(extension);
  return {.text = sse(value)};
}

Step completion_token(std::string text) {
  json::object entry;
  entry["index"] = 0;
  entry["text"] = text;
  entry["finish_reason"] = nullptr;
  return {.text = sse(chunk(json::array{std::move(entry)}, "text_completion"))};
}

Step finish(std::string reason, int choice) {
  json::object entry;
  entry["index"] = choice;
  entry["delta"] = json::object{};
  entry["text"] = "";
  entry["finish_reason"] = reason;
  return {.text = sse(chunk(json::array{std::move(entry)}))};
}

Step usage(int prompt, int completion) {
  json::object counts;
  counts["prompt_tokens"] = prompt;
  counts["completion_tokens"] = completion;
  counts["total_tokens"] = prompt + completion;
  json::object value = chunk(json::array{});
  value["usage"] = std::move(counts);
  return {.text = sse(value)};
}

Step done() { return {.text = "data: [DONE]\n\n"}; }
Step event(std::string data) { return {.text = "data: " + data + "\n\n"}; }
Step raw(std::string bytes) { return {.text = std::move(bytes)}; }
Step gate(std::string name) { return {.kind = Step::Kind::kGate, .text = std::move(name)}; }
Step cut() { return {.kind = Step::Kind::kCut, .text = {}}; }
Step hang() { return {.kind = Step::Kind::kHang, .text = {}}; }

Step answer(int status, std::string body, http::Headers headers) {
  return {.kind = Step::Kind::kAnswer,
          .text = {},
          .answer = {.status = status, .headers = std::move(headers), .body = std::move(body)}};
}

Script hello(std::vector<std::string> tokens) {
  Script result;
  int id = 100;
  for (std::string& text : tokens) result.push_back(token(std::move(text), id++));
  result.push_back(finish());
  result.push_back(usage(3, static_cast<int>(tokens.size())));
  result.push_back(done());
  return result;
}

}  // namespace script

struct MockWorker::Impl {
  explicit Impl(const http::Address& at) : changed(io.get_executor()) {
    auto made = http::listen_on(at);
    MLXS_ASSERT(made);
    listener = *made;
    address = *http::local_address(listener);
    state["ready"] = true;
    state["steps"] = 0;
    state["running"] = 0;
    state["waiting"] = 0;
    thread = std::thread{[this] { io.run(); }};
    on_loop([this] { serve(); });
  }
  ~Impl() {
    on_loop([this] {
      retire();
      changed.notify();
      work.reset();
    });
    thread.join();
    ::close(listener);
  }

  template <class Work>
  void on_loop(Work work_of) {
    std::promise<void> done;
    asio::post(io, [&] {
      work_of();
      done.set_value();
    });
    done.get_future().wait();
  }

  void serve() {
    server.emplace(
        io,
        listener,
        http::Limits{},
        [this](http::Exchange& exchange) { return handle(exchange); },
        [](const Error& error) { return api::error_response(error); });
    ++incarnation;
    server->start();
  }

  void retire() {
    if (!server) return;
    accepted_before += server->stats().connections_accepted;
    server->stop();
    server.reset();
    ++incarnation;
    changed.notify();
  }

  asio::awaitable<void> handle(http::Exchange& exchange) {
    const std::string path{exchange.request().path()};
    if (path == "/internal/state") return state_stream(exchange);
    if (path == "/v1/models") return models(exchange);
    return generate(exchange);
  }

  asio::awaitable<void> models(http::Exchange& exchange) {
    count_other("/v1/models");
    http::Response response;
    response.status = models_status;
    response.body = R"({"object":"list","data":[]})";
    (void)co_await exchange.send(std::move(response));
  }

  asio::awaitable<void> state_stream(http::Exchange& exchange) {
    const int mine = incarnation;
    http::Headers headers;
    headers.add("content-type", "text/event-stream");
    if (!co_await exchange.start_stream(200, std::move(headers))) co_return;
    count_other("/internal/state");
    std::uint64_t sent = 0;
    exchange.on_client_gone([this] { changed.notify(); });
    while (mine == incarnation && !exchange.client_gone()) {
      if (sent != state_version) {
        sent = state_version;
        const std::string bytes = sse(state);
        if (!co_await exchange.write(bytes)) co_return;
        continue;
      }
      co_await changed.wait(Clock::now() + kPatience);
    }
  }

  asio::awaitable<void> generate(http::Exchange& exchange) {
    const int mine = incarnation;
    exchange.on_client_gone([this] { changed.notify(); });
    co_await play(exchange, next_script(exchange.request()), mine);
    if (exchange.client_gone() && mine == incarnation) note([this] { ++cancelled; });
  }

  asio::awaitable<void> play(http::Exchange& exchange, Script steps, int mine) {
    bool begun = false;
    const auto over = [&] { return mine != incarnation || exchange.client_gone(); };
    for (Step& step : steps) {
      if (step.kind == Step::Kind::kGate) {
        while (!over() && !gates.contains(step.text))
          co_await changed.wait(Clock::now() + kPatience);
      } else if (step.kind == Step::Kind::kHang) {
        while (!over()) co_await changed.wait(Clock::now() + kPatience);
      } else if (step.kind == Step::Kind::kCut) {
        co_return;
      } else if (step.kind == Step::Kind::kAnswer) {
        (void)co_await exchange.send(std::move(step.answer));
        co_return;
      } else {
        if (!begun) {
          http::Headers headers;
          headers.add("content-type", "text/event-stream");
          if (!co_await exchange.start_stream(200, std::move(headers))) co_return;
          begun = true;
        }
        if (!co_await exchange.write(step.text)) co_return;
      }
      if (over()) co_return;
    }
    if (begun) (void)co_await exchange.finish();
  }

  Script next_script(const http::Request& request) {
    Script steps = script_now;
    note([&] {
      seen.push_back(request);
      if (enqueued.empty()) return;
      steps = std::move(enqueued.front());
      enqueued.pop_front();
    });
    return steps;
  }

  void count_other(const std::string& target) {
    note([&] { ++other[target]; });
  }

  template <class Change>
  void note(Change change) {
    {
      const std::lock_guard lock{mutex};
      change();
    }
    noted.notify_all();
  }
  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock{mutex};
    return noted.wait_for(lock, kPatience, condition);
  }

  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  Signal changed;
  int listener = -1;
  http::Address address;
  // Loop only.
  std::optional<http::Server> server;
  std::uint64_t accepted_before = 0;
  int incarnation = 0;
  Script script_now = script::hello();
  std::set<std::string> gates;
  json::object state;
  std::uint64_t state_version = 1;
  int models_status = 200;
  // Both threads.
  std::mutex mutex;
  std::condition_variable noted;
  std::deque<Script> enqueued;
  std::vector<http::Request> seen;
  std::map<std::string, std::size_t> other;
  std::size_t cancelled = 0;
  std::thread thread;
};

MockWorker::MockWorker(http::Address address) : impl_(std::make_unique<Impl>(address)) {}
MockWorker::~MockWorker() = default;

const http::Address& MockWorker::address() const { return impl_->address; }

void MockWorker::set_script(Script script) {
  impl_->on_loop([&] { impl_->script_now = std::move(script); });
}

void MockWorker::enqueue(Script script) {
  impl_->note([&] { impl_->enqueued.push_back(std::move(script)); });
}

void MockWorker::open(const std::string& name) {
  impl_->on_loop([&] {
    impl_->gates.insert(name);
    impl_->changed.notify();
  });
}

void MockWorker::set_state(boost::json::object state) {
  impl_->on_loop([&] {
    impl_->state = std::move(state);
    ++impl_->state_version;
    impl_->changed.notify();
  });
}

void MockWorker::set_models_status(int status) {
  impl_->on_loop([&] { impl_->models_status = status; });
}

void MockWorker::kill() {
  impl_->on_loop([&] { impl_->retire(); });
}

void MockWorker::restart() {
  impl_->on_loop([&] {
    impl_->retire();
    impl_->serve();
  });
}

http::Request MockWorker::request(std::size_t n) {
  if (!impl_->wait([&] { return impl_->seen.size() >= n; })) return {.method = "none came"};
  const std::lock_guard lock{impl_->mutex};
  return impl_->seen[n - 1];
}

std::size_t MockWorker::requests() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->seen.size();
}

std::size_t MockWorker::others(const std::string& target) const {
  const std::lock_guard lock{impl_->mutex};
  const auto it = impl_->other.find(target);
  return it == impl_->other.end() ? 0 : it->second;
}

bool MockWorker::wait_cancelled(std::size_t n) {
  return impl_->wait([&] { return impl_->cancelled >= n; });
}

bool MockWorker::wait_state_streams(std::size_t n) {
  return impl_->wait([&] { return impl_->other["/internal/state"] >= n; });
}

std::uint64_t MockWorker::connections_accepted() const {
  std::uint64_t count = 0;
  impl_->on_loop([&] {
    count = impl_->accepted_before;
    if (impl_->server) count += impl_->server->stats().connections_accepted;
  });
  return count;
}

std::uint64_t MockWorker::connections_open() const {
  std::uint64_t count = 0;
  impl_->on_loop([&] {
    if (impl_->server) count = impl_->server->stats().connections_open;
  });
  return count;
}

}  // namespace mlxs::gateway
