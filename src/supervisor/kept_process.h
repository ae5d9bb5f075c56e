#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "supervisor/restart_policy.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

namespace mlxs::supervisor {

/// One process that is started again when it ends by itself, until it does so too often.
/// Loop thread only. Destroying it kills the process.
class KeptProcess : public std::enable_shared_from_this<KeptProcess> {
 public:
  enum class State {
    kStopped,   ///< Not started, or ended as asked.
    kStarting,  ///< Runs, not ready yet.
    kRunning,   ///< Runs and is ready.
    kBackoff,   ///< Ended by itself; starts again after a delay.
    kFailed,    ///< Given up until `retry`.
    kStopping,  ///< Runs and has been asked to end.
  };
  /// What an end means.
  struct Verdict {
    std::string reason;      ///< In words, for people.
    bool permanent = false;  ///< Another start cannot help.
  };
  struct Hooks {
    std::function<Result<pid_t>()> launch;
    /// The process is gone (its wait status); releases what `launch` opened.
    std::function<Verdict(int status)> ended;
    /// The state changed. May call back into this object.
    std::function<void()> changed;
  };

  /// `name` is for the log.
  static std::shared_ptr<KeptProcess> create(boost::asio::io_context& loop,
                                             std::string name,
                                             const RestartLimits& limits,
                                             Hooks hooks);
  ~KeptProcess();
  KeptProcess(const KeptProcess&) = delete;
  KeptProcess& operator=(const KeptProcess&) = delete;

  /// From kStopped or kFailed, with all earlier ends forgiven; else nothing happens.
  void start();
  /// The process said that it can do its work.
  void mark_ready();
  /// It will end on its own now and is not started again; killed after `grace`.
  void expect_end(Milliseconds grace);
  /// SIGTERM, then killed after `grace`. Not started again.
  void terminate(Milliseconds grace);
  /// SIGKILL. Not started again.
  void kill();
  /// Notices an end. To be called on SIGCHLD.
  void reap();

  [[nodiscard]] State state() const { return state_; }
  /// 0 while none runs.
  [[nodiscard]] pid_t pid() const { return pid_ > 0 ? pid_ : 0; }
  /// Starts after the first, since `start`.
  [[nodiscard]] int restarts() const { return restarts_; }
  /// Why it ended the last time; empty if it has not.
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Until the next start; 0 unless kBackoff.
  [[nodiscard]] Milliseconds retry_in() const;

 private:
  KeptProcess(boost::asio::io_context& loop,
              std::string name,
              const RestartLimits& limits,
              Hooks hooks);
  void launch();
  void handle_end(const Verdict& verdict);
  void after(Milliseconds delay, void (KeptProcess::*action)());
  void set_state(State state);

  std::string name_;
  RestartPolicy policy_;
  Hooks hooks_;
  boost::asio::steady_timer timer_;  ///< The next start, or the kill; never both.
  unsigned timer_round_ = 0;
  State state_ = State::kStopped;
  pid_t pid_ = -1;
  int restarts_ = 0;
  std::string error_;
};

}  // namespace mlxs::supervisor
