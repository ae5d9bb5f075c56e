#include "base/log.h"
#include "worker/app.h"
#include "worker/lifeline.h"

#include <spdlog/spdlog.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace mlxs::worker {
namespace {

int run_app(App& app, const Options& options) {
  const auto address = app.listen();
  if (!address) {
    spdlog::error("cannot listen: {}", address.error().message);
    return App::kCannotListen;
  }
  spdlog::info("listening on {}", address->to_string());
  app.handle_signals();
  if (options.listen_fd < 0 && ::isatty(STDERR_FILENO) == 1) app.show_progress();
  return app.run();
}

}  // namespace

int run_worker(const Options& options, ModelLoader loader) {
  log_init("worker " + options.id, options.log_level);
  // A peer that is gone shows as an error of the write.
  std::signal(SIGPIPE, SIG_IGN);
  if (options.lifeline_fd >= 0) exit_with(options.lifeline_fd);

  App app{options, std::move(loader)};
  const int code = run_app(app, options);
  spdlog::info("ending with code {}", code);
  spdlog::shutdown();
  // The last line says it for whoever started us.
  if (!app.load_error().empty()) std::fprintf(stderr, "%s\n", app.load_error().c_str());
  if (!app.is_idle()) std::_Exit(code);
  return code;
}

}  // namespace mlxs::worker
