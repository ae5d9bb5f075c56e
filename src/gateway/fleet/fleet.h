#pragma once

#include "gateway/fleet/probe.h"
#include "gateway/fleet/state_stream.h"
#include "gateway/fleet/table.h"
#include "gateway/loop_signal.h"
#include "gateway/metrics.h"
#include "gateway/settings.h"
#include "gateway/tuning.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace mlxs::gateway {

/// Knows every worker and what state it is in, from three sources: the supervisor's table (which
/// native processes exist), their state streams (loading, ready, steps), and probes of foreign
/// workers. Publishes a new FleetTable whenever a state or identity changed. Control thread.
///
/// Native: the supervisor's `failed`, `backoff` and `stopping` count as said; otherwise a worker is
/// starting until its state stream opens, then loading or ready as that says, and stalled when it
/// has work but its step counter stands still, or its stream is silent, for Tuning::stall.
class Fleet {
 public:
  using Publish = std::function<void(std::shared_ptr<const FleetTable>)>;

  Fleet(boost::asio::io_context& io, Metrics& metrics, const Tuning& tuning, Publish publish);
  ~Fleet();
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// Takes the foreign workers of the configuration, and the bounds of native ones.
  void set_settings(SettingsPtr settings);
  /// Takes the supervisor's table: the array of its `workers` message. Entries that are not as
  /// agreed are logged and left out.
  void set_native(const boost::json::array& workers);

  [[nodiscard]] const std::shared_ptr<const FleetTable>& table() const { return table_; }
  /// For GET /admin/v1/workers and /admin/v1/models.
  [[nodiscard]] boost::json::array describe_workers() const;
  [[nodiscard]] boost::json::array describe_models() const;
  /// Sets the gauges of all workers; before each exposition.
  void collect();
  /// Ends everything it runs on the loop.
  void stop();

 private:
  struct Member;
  Member& member(const std::string& id);
  void on_state(Member& member, const boost::json::object& state);
  void on_lost(Member& member, bool opened, const std::string& why);
  void on_probe(Member& member, const std::string& failure);
  [[nodiscard]] WorkerState state_of(const Member& member) const;
  bool refresh(Member& member);  // whether a table was published
  void remove_if(const std::function<bool(const Member&)>& gone);
  void show_state(const Member& member, bool present);
  void publish();
  boost::asio::awaitable<void> check_stalls();

  boost::asio::io_context& io_;
  Metrics& metrics_;
  const Tuning& tuning_;
  Publish publish_;
  SettingsPtr settings_;
  std::map<std::string, std::unique_ptr<Member>> members_;
  std::shared_ptr<const FleetTable> table_;
  Signal stop_signal_;
  bool stopped_ = false;
};

}  // namespace mlxs::gateway
