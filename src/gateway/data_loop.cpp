#include "gateway/data_loop.h"

#include "api/errors.h"
#include "gateway/flight/flight.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace asio = boost::asio;

DataLoop::DataLoop(std::string name,
                   std::size_t loops,
                   int listener,
                   Shared& shared,
                   SettingsPtr settings,
                   std::shared_ptr<const FleetTable> fleet)
    : name_(std::move(name)),
      loops_(loops),
      work_(asio::make_work_guard(io_)),
      context_(io_, shared),
      service_(context_),
      server_(
          io_,
          listener,
          settings->http_limits(),
          [this](http::Exchange& exchange) { return service_.handle(exchange); },
          [](const Error& error) { return api::error_response(error); }),
      stop_signal_(io_.get_executor()) {
  context_.settings = std::move(settings);
  context_.fleet = std::move(fleet);
}

void DataLoop::start() {
  std::promise<void> accepting;
  asio::post(io_, [this, &accepting] {
    follow_fleet();
    server_.start();
    asio::co_spawn(io_, housekeeping(), asio::detached);
    asio::co_spawn(io_, canary(), asio::detached);
    accepting.set_value();
  });
  thread_ = std::thread{[this] {
    try {
      io_.run();
    } catch (const std::exception& exception) {
      // Handlers contain their own exceptions; one that comes this far is a fault of ours.
      spdlog::critical("{}: {}", name_, exception.what());
      std::terminate();
    }
    ended_.set_value();
  }};
  accepting.get_future().wait();
}

void DataLoop::update(SettingsPtr settings) {
  asio::post(io_, [this, settings = std::move(settings)]() mutable {
    server_.set_limits(settings->http_limits());
    context_.settings = std::move(settings);
    follow_fleet();
  });
}

void DataLoop::update(std::shared_ptr<const FleetTable> fleet) {
  asio::post(io_, [this, fleet = std::move(fleet)]() mutable {
    context_.fleet = std::move(fleet);
    follow_fleet();
  });
}

void DataLoop::follow_fleet() {
  if (stopping_) return;
  context_.pools.follow(*context_.fleet, loops_, context_.settings->config.timeouts.connect);
  for (const WorkerPtr& worker : context_.fleet->workers) {
    if (worker->state != WorkerState::kStalled) continue;
    for (Flight* flight : std::vector<Flight*>{context_.flights.begin(), context_.flights.end()})
      flight->stop_on(
          worker->id,
          {ErrorCode::kWorkerLost, "[fleet] the worker has work but made no step for too long"});
  }
  context_.fleet_changed.notify();
}

void DataLoop::drain(std::function<void()> idle) {
  asio::post(io_, [this, idle = std::move(idle)]() mutable {
    server_.drain();
    service_.drain(std::move(idle));
  });
}

void DataLoop::cut(Error why) {
  asio::post(io_, [this, why = std::move(why)] {
    for (Flight* flight : std::vector<Flight*>{context_.flights.begin(), context_.flights.end()})
      flight->stop(why);
  });
}

void DataLoop::stop() {
  asio::post(io_, [this] {
    stopping_ = true;
    server_.stop();
    for (Flight* flight : std::vector<Flight*>{context_.flights.begin(), context_.flights.end()})
      flight->stop({ErrorCode::kShuttingDown, "[gateway] is ending"});
    context_.pools.close();
    stop_signal_.notify();
    work_.reset();  // the loop ends once everything above has unwound
  });
}

bool DataLoop::join(Milliseconds wait) {
  if (!thread_.joinable()) return true;
  if (ended_.get_future().wait_for(wait) != std::future_status::ready) return false;
  thread_.join();
  return true;
}

asio::awaitable<void> DataLoop::housekeeping() {
  while (!stopping_) {
    co_await stop_signal_.wait(Clock::now() + context_.shared.tuning.housekeeping);
    if (!stopping_) context_.pools.sweep(Clock::now());
  }
}

asio::awaitable<void> DataLoop::canary() {
  telemetry::Histogram& delay = context_.shared.metrics.loop_delay(name_);
  while (!stopping_) {
    const TimePoint due = Clock::now() + context_.shared.tuning.canary;
    co_await stop_signal_.wait(due);
    if (!stopping_) delay.observe(std::chrono::duration<double>(Clock::now() - due).count());
  }
}

}  // namespace mlxs::gateway
