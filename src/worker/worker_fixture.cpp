#include "worker/worker_fixture.h"

#include "base/assert.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <future>
#include <utility>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

const Milliseconds kPatience{60'000};  // Against hanging for ever only.

template <class T>
T run(asio::io_context& loop, asio::awaitable<T> work) {
  auto done = asio::co_spawn(loop, std::move(work), asio::use_future);
  loop.restart();
  // Not `run`: time limits of the connection may be pending when the work is done.
  while (done.wait_for(Milliseconds{0}) != std::future_status::ready) loop.run_one();
  return done.get();
}

http::Request make_request(std::string method,
                           std::string target,
                           std::string body,
                           const Fields& headers) {
  http::Request request{.method = std::move(method), .target = std::move(target)};
  if (!body.empty()) request.headers.add("content-type", "application/json");
  for (const auto& [name, value] : headers) request.headers.set(name, value);
  request.body = std::move(body);
  return request;
}

asio::awaitable<Result<http::ResponseHead>> open(http::ClientConnection& connection,
                                                 http::Request request) {
  auto connected = co_await connection.connect(Deadline::after(kPatience));
  if (!connected) co_return connected.error();
  co_return co_await connection.send(request, Deadline::after(kPatience));
}

asio::awaitable<Result<std::string>> read_some(http::ClientConnection& connection) {
  auto bytes = co_await connection.read_some(Deadline::after(kPatience));
  if (!bytes) co_return bytes.error();
  co_return std::string{*bytes};
}

}  // namespace

RunningWorker::RunningWorker(fake::ModelKnobs knobs, Options options) {
  options.id = "fake";
  options.listen = "127.0.0.1:0";
  app_ = std::make_unique<App>(std::move(options), fake::model_loader(std::move(knobs)));
  address_ = app_->listen().value();
  thread_ = std::thread{[this] { code_ = app_->run(); }};
}

RunningWorker::~RunningWorker() {
  if (!thread_.joinable()) return;
  app_->stop();
  app_->stop();
  thread_.join();
}

void RunningWorker::wait_ready() {
  ASSERT_TRUE(eventually([this] { return get(*this, "/health").status == 200; }));
}

int RunningWorker::wait_end() {
  thread_.join();
  return code_;
}

void Gate::close() {
  const std::lock_guard lock{mutex_};
  closed_ = true;
}

void Gate::close_after(int steps) {
  const std::lock_guard lock{mutex_};
  passes_left_ = steps;
}

void Gate::open() {
  const std::lock_guard lock{mutex_};
  closed_ = false;
  passes_left_ = -1;
  changed_.notify_all();
}

void Gate::pass() {
  std::unique_lock lock{mutex_};
  if (passes_left_ == 0) closed_ = true;
  if (passes_left_ >= 0) --passes_left_;
  held_ = closed_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !closed_; });
  held_ = false;
}

void Gate::wait_held() {
  std::unique_lock lock{mutex_};
  ASSERT_TRUE(changed_.wait_for(lock, kPatience, [this] { return held_; }));
}

http::Response request(const http::Address& address,
                       std::string method,
                       std::string target,
                       std::string body,
                       const Fields& headers) {
  asio::io_context loop{1};
  auto call =
      http::fetch(address,
                  make_request(std::move(method), std::move(target), std::move(body), headers),
                  16 << 20,
                  Deadline::after(kPatience));
  auto response = run(loop, std::move(call));
  if (response) return std::move(*response);
  return {.status = -1, .body = response.error().message};
}

http::Response post(const RunningWorker& worker,
                    std::string target,
                    std::string_view body,
                    const Fields& headers) {
  return request(worker.address(), "POST", std::move(target), std::string{body}, headers);
}

http::Response get(const RunningWorker& worker, std::string target) {
  return request(worker.address(), "GET", std::move(target));
}

json::value json_of(const http::Response& response) {
  boost::system::error_code failure;
  json::value value = json::parse(response.body, failure);
  EXPECT_FALSE(failure) << response.status << ' ' << response.body;
  return value;
}

std::string error_of(const http::Response& response) {
  const json::value body = json_of(response);
  const json::object& error = body.at("error").as_object();
  const auto text = [&](const char* name) {
    const json::value& value = error.at(name);
    return value.is_null() ? std::string{} : std::string{value.as_string()};
  };
  return text("code") + " " + text("param");
}

EventStream::EventStream(const http::Address& address,
                         std::string method,
                         std::string target,
                         std::string body,
                         const Fields& headers)
    : connection_(loop_.get_executor(), address) {
  auto head =
      run(loop_,
          open(connection_,
               make_request(std::move(method), std::move(target), std::move(body), headers)));
  EXPECT_TRUE(head.has_value());
  if (head) head_ = std::move(*head);
}

EventStream::~EventStream() { connection_.close(); }

std::optional<std::string> EventStream::next() {
  http::SseReader::Event event;
  while (true) {
    auto found = reader_.next(event);
    MLXS_ASSERT(found);
    if (*found) return event.data;
    auto bytes = run(loop_, read_some(connection_));
    EXPECT_TRUE(bytes.has_value()) << bytes.error().message;
    if (!bytes || bytes->empty()) return std::nullopt;
    reader_.feed(*bytes);
  }
}

std::vector<std::string> EventStream::rest() {
  std::vector<std::string> events;
  while (auto event = next()) events.push_back(std::move(*event));
  return events;
}

std::string text_of(const std::vector<std::string>& events) {
  std::string text;
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const json::value chunk = json::parse(event);
    for (const json::value& choice : chunk.at("choices").as_array()) {
      const json::object& fields = choice.as_object();
      const json::value* piece = fields.contains("text")
                                     ? fields.if_contains("text")
                                     : fields.at("delta").as_object().if_contains("content");
      if (piece != nullptr && piece->is_string()) text += piece->as_string();
    }
  }
  return text;
}

bool eventually(const std::function<bool()>& condition) {
  const Deadline patience = Deadline::after(kPatience);
  while (!patience.passed()) {
    if (condition()) return true;
    // Most conditions take a connection, whose port stays taken for a while after it.
    std::this_thread::sleep_for(Milliseconds{1});
  }
  return false;
}

}  // namespace mlxs::worker
