#pragma once

#include "gateway/fleet/table.h"
#include "gateway/metrics.h"
#include "gateway/tuning.h"
#include "gateway/upstream/pool.h"

#include <boost/asio/any_io_executor.hpp>

#include <map>
#include <memory>
#include <string>

namespace mlxs::gateway {

/// One loop's pools, one for each worker of the fleet. Loop thread only.
class PoolTable {
 public:
  PoolTable(boost::asio::any_io_executor executor, Metrics& metrics, const Tuning& tuning)
      : executor_(executor), metrics_(metrics), tuning_(tuning) {}

  /// Follows the fleet: pools for new workers, closed ones for those that left, no idle connection
  /// to a process that was replaced, warm ones to whatever is ready. `loops` share a worker's
  /// connection limit.
  void follow(const FleetTable& fleet, std::size_t loops, Milliseconds connect);
  /// The pool of `worker`; null if it left the fleet.
  [[nodiscard]] std::shared_ptr<Pool> find(const std::string& worker_id) const;
  void sweep(TimePoint now);
  void close();

 private:
  struct Entry {
    std::shared_ptr<Pool> pool;
    http::Address address;
    std::uint64_t incarnation;
    bool ready;
  };
  boost::asio::any_io_executor executor_;
  Metrics& metrics_;
  const Tuning& tuning_;
  std::map<std::string, Entry> entries_;
};

}  // namespace mlxs::gateway
