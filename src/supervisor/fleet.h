#pragma once

#include "base/result.h"
#include "config/config.h"
#include "supervisor/control.h"
#include "supervisor/restart_policy.h"
#include "supervisor/worker.h"

#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::supervisor {

/// How far a native model is on its way to serving.
struct ModelProgress {
  std::string id;
  bool ready = false;        ///< A worker is ready.
  bool failed = false;       ///< All workers have been given up.
  bool pulling = false;      ///< Its files come from a hub.
  double load_progress = 0;  ///< Of the worker that is furthest.
};

/// All native workers. Loop thread only.
class Fleet {
 public:
  struct Settings {
    std::filesystem::path program;  ///< mlx-serving-worker
    std::filesystem::path sockets;  ///< A folder of our own.
    RestartLimits restarts;
    Milliseconds grace{5'000};  ///< From SIGTERM to SIGKILL.
    int cores = 1;              ///< Shared out between workers.
  };

  Fleet(boost::asio::io_context& loop, Settings settings, std::function<void()> changed);

  /// Starts what `config` has and is not there; retires what it has no more. kIo when a socket
  /// cannot be opened; workers made before that stay.
  [[nodiscard]] Result<void> apply(const config::Config& config);
  void retry_failed();
  void terminate_all();
  void kill_all();
  void reap();

  [[nodiscard]] bool all_stopped() const;
  [[nodiscard]] std::vector<WorkerEntry> entries() const;
  [[nodiscard]] std::vector<ModelProgress> progress() const;

 private:
  [[nodiscard]] Result<void> grow(const config::Model& model, const config::Config& config);
  [[nodiscard]] std::string free_id(const std::string& model) const;

  boost::asio::io_context& loop_;
  Settings settings_;
  std::function<void()> changed_;
  std::vector<std::shared_ptr<Worker>> workers_;
  int sockets_made_ = 0;
};

}  // namespace mlxs::supervisor
