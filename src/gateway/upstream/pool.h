#pragma once

#include "base/deadline.h"
#include "gateway/fleet/table.h"
#include "gateway/loop_signal.h"
#include "http/client.h"
#include "telemetry/metrics.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>

namespace mlxs::gateway {

class Pool;

/// One connection for one attempt. On destruction it goes back to its pool if the exchange on it
/// ended cleanly, and is closed otherwise, which cancels whatever the worker does for it.
class Lease {
 public:
  Lease(std::shared_ptr<Pool> pool,
        std::unique_ptr<http::ClientConnection> connection,
        bool connected)
      : pool_(std::move(pool)), connection_(std::move(connection)), connected_(connected) {}
  Lease(Lease&&) = default;
  Lease& operator=(Lease&&) = delete;
  ~Lease();

  [[nodiscard]] http::ClientConnection& connection() { return *connection_; }
  /// Whether it served before; otherwise the holder connects it. A connection that served before
  /// may turn out to be closed by the worker meanwhile: its loss before any byte of an answer is
  /// then no failure of the worker.
  [[nodiscard]] bool connected() const { return connected_; }

 private:
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<http::ClientConnection> connection_;
  bool connected_;
};

struct PoolLimits {
  std::size_t connections_max = 64;
  std::size_t warm = 2;
  Milliseconds idle{30'000};
  Milliseconds connect{2'000};
};

/// The connections of one event loop to one worker: reused last in, first out; some kept warm, the
/// ones beyond closed after a time without use; never more than a maximum. One attempt at a time
/// on each. Loop thread only.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  struct Gauges {
    telemetry::Gauge& idle;
    telemetry::Gauge& leased;
  };
  Pool(boost::asio::any_io_executor executor,
       http::Address address,
       PoolLimits limits,
       Gauges gauges);
  ~Pool();

  /// An idle connection, or a new one to connect; nothing while the maximum is out, or after
  /// `close`. `fresh` never gives an idle one.
  [[nodiscard]] std::optional<Lease> try_lease(bool fresh);
  /// Until a lease came back, or `until`.
  boost::asio::awaitable<void> wait_returned(TimePoint until) { return returned_.wait(until); }
  [[nodiscard]] Signal& returned() { return returned_; }

  void set_limits(const PoolLimits& limits) { limits_ = limits; }
  /// Connects until `warm` connections exist. Does nothing while it is at it already.
  void warm_up();
  /// Closes idle connections that the worker closed or nobody used for long, then warms up.
  void sweep(TimePoint now);
  /// Another process answers at the address now: idle connections lead to the old one.
  void drop_idle();
  /// Ends the pool: no more leases, idle connections closed. Leases that are out stay valid.
  void close();

  [[nodiscard]] std::size_t idle_count() const { return idle_.size(); }
  [[nodiscard]] std::size_t leased_count() const { return leased_; }

 private:
  friend class Lease;
  struct Idle {
    std::unique_ptr<http::ClientConnection> connection;
    TimePoint since;
  };
  boost::asio::awaitable<void> connect_warm(std::shared_ptr<Pool> self);
  void give_back(std::unique_ptr<http::ClientConnection> connection);
  void update_gauges();

  boost::asio::any_io_executor executor_;
  http::Address address_;
  PoolLimits limits_;
  Gauges gauges_;
  std::deque<Idle> idle_;  // the longest unused in front
  std::size_t leased_ = 0;
  std::unique_ptr<http::ClientConnection> warming_;
  bool warming_up_ = false;
  bool closed_ = false;
  std::size_t idle_shown_ = 0;  // what the gauges were told
  std::size_t leased_shown_ = 0;
  Signal returned_;
};

}  // namespace mlxs::gateway
