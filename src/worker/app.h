#pragma once

#include "base/result.h"
#include "http/address.h"
#include "worker/codec.h"
#include "worker/options.h"

#include <memory>

namespace mlxs::worker {

/// One worker: builds every object and hands it down. Made, run and destroyed on one thread, which
/// is its event loop; the engine and the loading of the model have threads of their own.
class App {
 public:
  /// What `run` returns, and the process with it.
  enum ExitCode {
    kAskedToStop = 0,
    kCannotListen = 1,
    kEngineBroken = 70,  ///< EX_SOFTWARE: whoever started it should start another.
    kTryAgain = 75,      ///< EX_TEMPFAIL: the hub that has the model cannot be reached.
    kCannotLoad = 78,    ///< EX_CONFIG: starting it again would end the same way.
  };

  App(Options options, ModelLoader loader);
  ~App();
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  /// Before `run`: takes over or opens the listening socket. kIo naming the address.
  [[nodiscard]] Result<http::Address> listen();
  /// Before `run`: SIGTERM and SIGINT ask to stop.
  void handle_signals();
  /// Before `run`: shows how far the load is, on the terminal that is stderr.
  void show_progress();

  /// Accepts at once, loads, serves until asked to stop.
  [[nodiscard]] int run();

  /// Refuses new work, ends what runs within `Options::drain`, and lets `run` return. Asked again,
  /// it returns at once. Any thread.
  void stop();

  /// After `run`: why the model could not be loaded; empty if it could.
  [[nodiscard]] const std::string& load_error() const;
  /// After `run`: whether the destructor will return soon, since no load and no hung step holds it.
  [[nodiscard]] bool is_idle() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The whole of a worker's main after its command line. Returns the process's exit code.
[[nodiscard]] int run_worker(const Options& options, ModelLoader loader);

}  // namespace mlxs::worker
