#include "gateway/upstream/pool.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <spdlog/spdlog.h>

#include <utility>

namespace mlxs::gateway {
namespace asio = boost::asio;

Lease::~Lease() {
  if (pool_) pool_->give_back(std::move(connection_));
}

Pool::Pool(asio::any_io_executor executor, http::Address address, PoolLimits limits, Gauges gauges)
    : executor_(executor),
      address_(std::move(address)),
      limits_(limits),
      gauges_(gauges),
      returned_(executor) {}

Pool::~Pool() {
  idle_.clear();
  update_gauges();
}

std::optional<Lease> Pool::try_lease(bool fresh) {
  if (closed_) return std::nullopt;
  while (!fresh && !idle_.empty()) {
    auto connection = std::move(idle_.back().connection);
    idle_.pop_back();
    if (!connection->reusable()) continue;
    ++leased_;
    update_gauges();
    return Lease{shared_from_this(), std::move(connection), true};
  }
  if (leased_ + idle_.size() >= limits_.connections_max) {
    if (idle_.empty()) return std::nullopt;
    idle_.pop_front();  // only a fresh one will do: it takes the place of an idle one
  }
  ++leased_;
  update_gauges();
  return Lease{
      shared_from_this(), std::make_unique<http::ClientConnection>(executor_, address_), false};
}

void Pool::give_back(std::unique_ptr<http::ClientConnection> connection) {
  --leased_;
  if (!closed_ && connection->reusable()) idle_.push_back({std::move(connection), Clock::now()});
  connection.reset();
  update_gauges();
  returned_.notify();
}

void Pool::warm_up() {
  if (closed_ || warming_up_ || idle_.size() + leased_ >= limits_.warm) return;
  warming_up_ = true;
  asio::co_spawn(executor_, connect_warm(shared_from_this()), asio::detached);
}

asio::awaitable<void> Pool::connect_warm(std::shared_ptr<Pool> self) {
  while (!self->closed_ && self->idle_.size() + self->leased_ < self->limits_.warm) {
    self->warming_ = std::make_unique<http::ClientConnection>(executor_, address_);
    auto connected = co_await self->warming_->connect(Deadline::after(limits_.connect));
    auto connection = std::move(self->warming_);
    if (!connected || self->closed_) break;  // the next sweep tries again
    // Leases may have taken all places while this one connected.
    if (self->idle_.size() + self->leased_ >= self->limits_.connections_max) break;
    self->idle_.push_front({std::move(connection), Clock::now()});
    self->update_gauges();
    self->returned_.notify();
  }
  self->warming_up_ = false;
}

void Pool::sweep(TimePoint now) {
  std::erase_if(idle_, [](const Idle& idle) { return !idle.connection->reusable(); });
  while (idle_.size() + leased_ > limits_.warm && !idle_.empty() &&
         now - idle_.front().since >= limits_.idle)
    idle_.pop_front();
  update_gauges();
  warm_up();
}

void Pool::drop_idle() {
  idle_.clear();
  update_gauges();
}

void Pool::close() {
  closed_ = true;
  if (warming_) warming_->close();
  drop_idle();
  returned_.notify();
}

void Pool::update_gauges() {
  gauges_.idle.add(static_cast<double>(idle_.size()) - static_cast<double>(idle_shown_));
  gauges_.leased.add(static_cast<double>(leased_) - static_cast<double>(leased_shown_));
  idle_shown_ = idle_.size();
  leased_shown_ = leased_;
}

}  // namespace mlxs::gateway
