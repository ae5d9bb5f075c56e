#pragma once

#include "http/address.h"

#include <boost/asio/io_context.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace mlxs::supervisor {

/// What the supervisor wants to know of a worker's `/internal/state`.
struct WorkerState {
  bool ready = false;
  bool pulling = false;      ///< Its model comes from a hub first.
  double load_progress = 0;  ///< Of the pull or of the load, 0 to 1.
  int unfinished = 0;        ///< Sequences running and waiting.
};

/// Reads one event of the stream; nothing if it is not one.
[[nodiscard]] std::optional<WorkerState> parse_worker_state(std::string_view json);

/// Keeps the state stream of one worker process open and reports each event, connecting again when
/// it breaks. Ends when destroyed. Loop thread only.
class StateWatch {
 public:
  using OnState = std::function<void(const WorkerState&)>;

  StateWatch(boost::asio::io_context& loop, http::Address address, OnState on_state);
  ~StateWatch();
  StateWatch(const StateWatch&) = delete;
  StateWatch& operator=(const StateWatch&) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mlxs::supervisor
