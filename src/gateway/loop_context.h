#pragma once

#include "gateway/admin/access_log.h"
#include "gateway/cache/answer_store.h"
#include "gateway/cache/epochs.h"
#include "gateway/cache/features.h"
#include "gateway/fleet/table.h"
#include "gateway/loop_signal.h"
#include "gateway/metrics.h"
#include "gateway/routing/round_robin.h"
#include "gateway/settings.h"
#include "gateway/stages/admission.h"
#include "gateway/tuning.h"
#include "gateway/upstream/pool_table.h"

#include <boost/asio/io_context.hpp>

#include <memory>
#include <set>

namespace mlxs::gateway {

class Flight;
class FlightTable;

/// What the whole gateway shares; each member says that any thread may use it.
struct Shared {
  const Tuning& tuning;
  Metrics& metrics;
  Admission& admission;
  RoundRobin& round_robin;
  AccessLog& access_log;
  Epochs& epochs;
  AnswerStore& answers;
  Features& features;
  FlightTable& flights;
};

/// What the requests of one data loop share; on its thread only. The snapshots are replaced by the
/// control thread's posts.
struct LoopContext {
  LoopContext(boost::asio::io_context& io_context, Shared& of_all)
      : io(io_context),
        shared(of_all),
        fleet(std::make_shared<FleetTable>()),
        fleet_changed(io_context.get_executor()),
        pools(io_context.get_executor(), of_all.metrics, of_all.tuning),
        metrics(of_all.metrics) {}

  boost::asio::io_context& io;
  Shared& shared;
  SettingsPtr settings;
  std::shared_ptr<const FleetTable> fleet;
  Signal fleet_changed;
  PoolTable pools;
  LoopMetrics metrics;
  std::set<Flight*> flights;  // under way
};

}  // namespace mlxs::gateway
