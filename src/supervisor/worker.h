#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "config/config.h"
#include "supervisor/control.h"
#include "supervisor/fd.h"
#include "supervisor/kept_process.h"
#include "supervisor/restart_policy.h"
#include "supervisor/state_watch.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::supervisor {

class OutputReader;

/// One native worker: its listening socket, which outlives its processes, and the process of the
/// moment. Connections made while no process runs wait in the socket's backlog. Loop thread only.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  struct Settings {
    std::string id;  ///< "MODEL/0"
    config::Model model;
    int threads = 1;
    std::filesystem::path packed_folder;  ///< For packed weights.
    std::uint64_t packed_bytes_max = 0;   ///< There; 0: none.
    std::string log_level;
    std::filesystem::path program;
    std::filesystem::path socket;
    RestartLimits restarts;
  };

  /// Opens the socket. `changed` is called when `entry` has changed.
  [[nodiscard]] static Result<std::shared_ptr<Worker>> create(boost::asio::io_context& loop,
                                                              Settings settings,
                                                              std::function<void()> changed);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();
  /// Starts again what was given up.
  void retry();
  /// Ends the process once it has no sequence left, after `drain` in any case; SIGKILL after
  /// another `grace`. Not started again.
  void retire(Milliseconds drain, Milliseconds grace);
  /// SIGTERM now, SIGKILL after `grace`. Not started again.
  void terminate(Milliseconds grace);
  void kill();
  void reap();
  /// For processes that are started from now on.
  void set_log_level(const std::string& level) { settings_.log_level = level; }

  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] KeptProcess::State state() const { return process_->state(); }
  [[nodiscard]] const std::string& error() const { return process_->error(); }
  [[nodiscard]] double load_progress() const { return load_progress_; }
  [[nodiscard]] bool pulling() const { return pulling_; }
  [[nodiscard]] bool retiring() const { return retire_until_.has_value(); }
  [[nodiscard]] WorkerEntry entry() const;

 private:
  Worker(boost::asio::io_context& loop,
         Settings settings,
         Fd listener,
         std::function<void()> changed);
  Result<pid_t> launch();
  KeptProcess::Verdict ended(int status);
  void on_state(const WorkerState& state);

  boost::asio::io_context& loop_;
  Settings settings_;
  std::function<void()> changed_;
  Fd listener_;
  std::shared_ptr<KeptProcess> process_;
  // Of the running process:
  Fd lifeline_;  ///< Our end; the worker ends when it closes.
  std::shared_ptr<OutputReader> output_;
  std::unique_ptr<StateWatch> watch_;
  double load_progress_ = 0;
  bool pulling_ = false;
  // Once retiring:
  std::optional<TimePoint> retire_until_;
  TimePoint retire_since_;
  Milliseconds retire_grace_{0};
  boost::asio::steady_timer retire_timer_;
};

/// The worker's command line for `settings`; descriptors 3 and 4 are its lifeline and listener.
[[nodiscard]] std::vector<std::string> worker_arguments(const Worker::Settings& settings);

}  // namespace mlxs::supervisor
