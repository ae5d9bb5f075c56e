#include "gateway/gateway.h"

#include "api/errors.h"
#include "base/log.h"
#include "gateway/flight/log_codec.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace mlxs::gateway {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

constexpr Milliseconds kLoopEndMax{5'000};

std::string_view text_of(const json::object& message, std::string_view key) {
  const json::value* value = message.if_contains(key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view{} : std::string_view{text->data(), text->size()};
}

json::object ready_message() {
  json::object message;
  message["type"] = "ready";
  return message;
}

std::size_t loop_count(int configured) {
  if (configured > 0) return static_cast<std::size_t>(configured);
  return std::thread::hardware_concurrency() > 4 ? 2 : 1;
}

}  // namespace

Gateway::Gateway(const GatewayFds& fds, const Tuning& tuning)
    : fds_(fds),
      tuning_(tuning),
      metrics_(registry_),
      access_log_(io_, tuning.access_log_lines, metrics_.access_log_dropped),
      epochs_(new_epochs()),
      answers_(epochs_, {}),
      cache_keeper_(epochs_, answers_, {append_bytes, log_from_bytes}, metrics_),
      flights_(epochs_),
      shared_{tuning_,
              metrics_,
              admission_,
              round_robin_,
              access_log_,
              epochs_,
              answers_,
              features_,
              flights_},
      channel_(io_, fds.control),
      changed_(io_.get_executor()),
      fleet_(io_, metrics_, tuning_, [this](std::shared_ptr<const FleetTable> table) {
        publish(std::move(table));
      }) {
  registry_.on_collect([this] {
    metrics_.requests_in_flight.set(admission_.in_flight());
    metrics_.flight_subscribers.set(static_cast<double>(flights_.subscribers()));
    fleet_.collect();
  });
}

Gateway::~Gateway() = default;

int Gateway::run() {
  asio::co_spawn(io_, control(), [this](std::exception_ptr thrown) {
    if (!thrown) return;
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& exception) {
      spdlog::critical("[control] {}", exception.what());
    }
    end(1);
  });
  io_.run();
  for (const auto& loop : loops_) {
    if (loop->join(kLoopEndMax)) continue;
    // A fault of ours must not keep the supervisor waiting for this process.
    spdlog::critical("[gateway] an event loop did not end");
    access_log_.flush();
    std::_Exit(status_);
  }
  access_log_.flush();
  return status_;
}

asio::awaitable<void> Gateway::control() {
  for (;;) {
    auto message = co_await channel_.read();
    if (ending_) co_return;
    if (!message) break;
    const std::string_view type = text_of(*message, "type");
    if (type == "config") {
      const bool first = !settings_;
      if (!configure(*message)) break;
      if (first) co_await channel_.write(ready_message());
    } else if (type == "workers") {
      const json::value* workers = message->if_contains("workers");
      if (workers != nullptr && workers->is_array()) fleet_.set_native(workers->get_array());
    } else if (type == "drain") {
      if (!draining_) asio::co_spawn(io_, drain(), asio::detached);
    } else {
      spdlog::warn("[control] unknown message \"{}\"", type);
    }
  }
  end(1);  // the supervisor is gone, or never gave a usable configuration
}

bool Gateway::configure(const json::object& message) {
  auto settings = Settings::parse(text_of(message, "yaml"));
  if (!settings) {
    spdlog::error("[config] {}", settings.error().message);
    return settings_ != nullptr;  // a bad reload leaves the old one in force
  }
  if (settings_) {
    reload(std::move(*settings));
  } else {
    begin(std::move(*settings));
  }
  return true;
}

void Gateway::begin(SettingsPtr settings) {
  settings_ = std::move(settings);
  const config::Config& config = settings_->config;
  log_set_level(config.log.level);
  if (!access_log_.open(config.log.access))
    spdlog::error("[access log] cannot open {}; writing to stderr", config.log.access);
  fleet_.set_settings(settings_);
  cache_keeper_.begin(*settings_);
  const std::size_t count = loop_count(config.threads);
  for (std::size_t index = 0; index < count; ++index)
    loops_.push_back(std::make_unique<DataLoop>(
        "data" + std::to_string(index), count, fds_.api, shared_, settings_, fleet_.table()));
  for (const auto& loop : loops_) loop->start();
  admin_.emplace(shared_, fleet_, cache_keeper_, settings_);
  admin_server_.emplace(
      io_,
      fds_.admin,
      settings_->http_limits(),
      [this](http::Exchange& exchange) { return admin_->handle(exchange); },
      [](const Error& error) { return api::error_response(error); });
  admin_server_->start();
  asio::co_spawn(io_, canary(), asio::detached);
  asio::co_spawn(io_, housekeeping(), asio::detached);
  spdlog::info("[gateway] serves with {} data loop(s)", count);
}

void Gateway::reload(SettingsPtr settings) {
  settings_ = std::move(settings);
  log_set_level(settings_->config.log.level);
  if (!access_log_.open(settings_->config.log.access))
    spdlog::error("[access log] cannot open {}; writing to stderr", settings_->config.log.access);
  cache_keeper_.set_settings(*settings_);
  for (const auto& loop : loops_) loop->update(settings_);
  admin_->set_settings(settings_);
  admin_server_->set_limits(settings_->http_limits());
  fleet_.set_settings(settings_);
  spdlog::info("[gateway] configuration reloaded");
}

void Gateway::publish(std::shared_ptr<const FleetTable> table) {
  for (const auto& loop : loops_) loop->update(table);
}

asio::awaitable<void> Gateway::drain() {
  draining_ = true;
  if (admin_) admin_->drain();
  spdlog::info("[gateway] draining");
  loops_busy_ = loops_.size();
  for (const auto& loop : loops_)
    loop->drain([this] {
      asio::post(io_, [this] {
        --loops_busy_;
        changed_.notify();
      });
    });
  const auto limit = settings_ ? settings_->config.timeouts.drain : Milliseconds{0};
  const TimePoint cut_at = Clock::now() + limit;
  while (loops_busy_ > 0 && !ending_ && Clock::now() < cut_at) co_await changed_.wait(cut_at);
  if (loops_busy_ > 0 && !ending_) {
    spdlog::warn("[gateway] requests still run after {} ms of drain: cut", limit.count());
    for (const auto& loop : loops_)
      loop->cut({ErrorCode::kShuttingDown, "[gateway] the server is shutting down"});
    const TimePoint give_up = Clock::now() + tuning_.drain_grace;
    while (loops_busy_ > 0 && !ending_ && Clock::now() < give_up) co_await changed_.wait(give_up);
  }
  co_await cache_keeper_.save_snapshot();
  end(0);
}

asio::awaitable<void> Gateway::canary() {
  telemetry::Histogram& delay = metrics_.loop_delay("control");
  while (!ending_) {
    const TimePoint due = Clock::now() + tuning_.canary;
    co_await changed_.wait(due);
    // Woken early by something else: says nothing about the loop.
    const TimePoint now = Clock::now();
    if (now >= due) delay.observe(std::chrono::duration<double>(now - due).count());
  }
}

asio::awaitable<void> Gateway::housekeeping() {
  while (!ending_) {
    const TimePoint due = Clock::now() + tuning_.housekeeping;
    while (!ending_ && Clock::now() < due) co_await changed_.wait(due);
    if (!ending_) co_await cache_keeper_.housekeep();
  }
}

void Gateway::end(int status) {
  if (ending_) return;
  ending_ = true;
  status_ = status;
  for (const auto& loop : loops_) loop->stop();
  if (admin_server_) admin_server_->stop();
  fleet_.stop();
  channel_.close();
  changed_.notify();
}

}  // namespace mlxs::gateway
