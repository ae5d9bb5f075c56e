#pragma once

#include "base/deadline.h"
#include "supervisor/control.h"
#include "supervisor/kept_process.h"
#include "supervisor/restart_policy.h"

#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace mlxs::supervisor {

/// The gateway: the process of the moment and the channel to it. A new process is given the same
/// listeners and the newest configuration and worker table. Loop thread only.
class GatewayProcess {
 public:
  struct Settings {
    std::filesystem::path program;  ///< mlx-serving, started as `mlx-serving gateway`
    int api = -1;                   ///< Listeners, borrowed while it may be started.
    int admin = -1;
    RestartLimits restarts;
  };

  GatewayProcess(boost::asio::io_context& loop, Settings settings, std::function<void()> changed);
  GatewayProcess(const GatewayProcess&) = delete;
  GatewayProcess& operator=(const GatewayProcess&) = delete;

  /// After the first `set_config`.
  void start();
  void set_config(std::string message);
  /// Does nothing if the gateway has this very table.
  void set_workers(std::string message);
  /// Asks it to finish what runs and to end; SIGKILL after `grace`.
  void drain(Milliseconds grace);
  void kill();
  void reap();

  [[nodiscard]] KeptProcess::State state() const { return process_->state(); }
  [[nodiscard]] const std::string& error() const { return process_->error(); }

 private:
  Result<pid_t> launch();

  boost::asio::io_context& loop_;
  Settings settings_;
  std::string config_;
  std::string workers_;
  std::unique_ptr<ControlChannel> channel_;  ///< While a process runs.
  std::shared_ptr<KeptProcess> process_;
};

}  // namespace mlxs::supervisor
