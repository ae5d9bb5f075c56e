#include "gateway/upstream/pool_table.h"

#include <algorithm>
#include <set>

namespace mlxs::gateway {

void PoolTable::follow(const FleetTable& fleet, std::size_t loops, Milliseconds connect) {
  std::set<std::string> present;
  for (const WorkerPtr& worker : fleet.workers) {
    present.insert(worker->id);
    PoolLimits limits{
        .connections_max = std::max<std::size_t>(1, (worker->connections_max + loops - 1) / loops),
        .warm = tuning_.pool_warm,
        .idle = tuning_.pool_idle,
        .connect = connect};
    limits.warm = std::min(limits.warm, limits.connections_max);
    const bool ready = worker->state == WorkerState::kReady;
    auto it = entries_.find(worker->id);
    if (it != entries_.end() && it->second.address != worker->address) {
      it->second.pool->close();
      entries_.erase(it);
      it = entries_.end();
    }
    if (it == entries_.end()) {
      auto pool = std::make_shared<Pool>(executor_,
                                         worker->address,
                                         limits,
                                         Pool::Gauges{metrics_.pool_idle, metrics_.pool_leased});
      it = entries_.emplace(worker->id, Entry{pool, worker->address, worker->incarnation, false})
               .first;
    }
    Entry& entry = it->second;
    entry.pool->set_limits(limits);
    if (entry.incarnation != worker->incarnation) entry.pool->drop_idle();
    entry.incarnation = worker->incarnation;
    entry.ready = ready;
    if (ready) entry.pool->warm_up();
  }
  std::erase_if(entries_, [&](auto& item) {
    if (present.contains(item.first)) return false;
    item.second.pool->close();
    return true;
  });
}

std::shared_ptr<Pool> PoolTable::find(const std::string& worker_id) const {
  const auto it = entries_.find(worker_id);
  return it == entries_.end() ? nullptr : it->second.pool;
}

void PoolTable::sweep(TimePoint now) {
  for (auto& [id, entry] : entries_)
    if (entry.ready) entry.pool->sweep(now);
}

void PoolTable::close() {
  for (auto& [id, entry] : entries_) entry.pool->close();
  entries_.clear();
}

}  // namespace mlxs::gateway
