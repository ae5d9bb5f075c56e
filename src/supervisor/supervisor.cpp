#include "supervisor/supervisor.h"

#include "base/log.h"
#include "config/config.h"
#include "http/address.h"
#include "supervisor/announce.h"
#include "supervisor/control.h"
#include "supervisor/cores.h"
#include "supervisor/fd.h"
#include "supervisor/fleet.h"
#include "supervisor/gateway_process.h"
#include "supervisor/process.h"
#include "supervisor/runtime_dir.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace mlxs::supervisor {
namespace {

namespace asio = boost::asio;

constexpr Milliseconds kProgressFirst{1'000};  // Nobody needs a progress line for less.
constexpr Milliseconds kProgressNext{200};

/// The listeners, and what of them has to be removed at the end.
struct Listeners {
  Fd api;
  Fd admin;
  std::string api_address;    ///< With its real port.
  std::string admin_address;  ///< Likewise.
};

Result<Fd> open_listener(const std::string& text, std::string& real_address) {
  const auto address = http::Address::parse(text);
  if (!address) return address.error();
  const auto listener = http::listen_on(*address);
  if (!listener) return listener.error();
  Fd fd{*listener};
  real_address = text;
  if (address->kind == http::Address::Kind::kTcp && address->port == 0) {
    const auto real = http::local_address(fd.get());
    if (!real) return real.error();
    real_address = real->to_string();
  }
  return fd;
}

void remove_socket_file(const std::string& address) {
  constexpr std::string_view kUnix = "unix:";
  std::error_code ignored;
  if (address.starts_with(kUnix)) std::filesystem::remove(address.substr(kUnix.size()), ignored);
}

class Supervisor {
 public:
  Supervisor(const Options& options,
             config::Config config,
             Listeners listeners,
             const std::filesystem::path& sockets)
      : options_(options),
        config_(std::move(config)),
        listeners_(std::move(listeners)),
        signals_(loop_, SIGINT, SIGTERM, SIGHUP),
        child_signals_(loop_, SIGCHLD),
        progress_timer_(loop_),
        fleet_(loop_,
               {.program = options.worker_program,
                .sockets = sockets,
                .restarts = options.worker_restarts,
                .grace = options.grace,
                .cores = cores_available()},
               [this] { schedule_update(); }),
        gateway_(loop_,
                 {.program = options.program,
                  .api = listeners_.api.get(),
                  .admin = listeners_.admin.get(),
                  .restarts = options.gateway_restarts},
                 [this] { schedule_update(); }) {}

  int run() {
    wait_for_signal();
    wait_for_child();
    if (const auto started = fleet_.apply(config_); !started) {
      spdlog::error("{}", started.error().message);
      return 1;
    }
    gateway_.set_config(config_message(config::render(config_as_bound())));
    gateway_.set_workers(workers_message(fleet_.entries()));
    gateway_.start();
    if (::isatty(STDERR_FILENO) != 0) show_progress_after(kProgressFirst);
    loop_.run();
    return exit_status_;
  }

 private:
  enum class Stage { kServing, kDraining, kStopping };

  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      if (signal == SIGHUP && !terminal_is_gone()) {
        reload();
      } else {
        end();
      }
      wait_for_signal();
    });
  }

  void wait_for_child() {
    child_signals_.async_wait([this](const boost::system::error_code& error, int /*signal*/) {
      if (error) return;
      wait_for_child();
      gateway_.reap();
      fleet_.reap();
    });
  }

  /// A SIGHUP because the terminal was closed, not because somebody asked for a reload.
  [[nodiscard]] bool terminal_is_gone() const {
    return had_terminal_ && !Fd{::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)}.valid();
  }

  /// The first call drains, the next ones end everything at once.
  void end() {
    if (stage_ == Stage::kServing) {
      spdlog::info("draining: running requests have {} ms to finish",
                   config_.timeouts.drain.count());
      stage_ = Stage::kDraining;
      // Once the gateway closes its copies, connecting is refused rather than left waiting.
      listeners_.api.reset();
      listeners_.admin.reset();
      gateway_.drain(config_.timeouts.drain + options_.grace);
    } else {
      spdlog::warn("asked again: ending at once");
      stage_ = Stage::kStopping;
      gateway_.kill();
      fleet_.kill_all();
    }
    schedule_update();
  }

  void reload() {
    if (stage_ != Stage::kServing) return;
    auto next = config::load(options_.config_file, options_.overrides);
    if (next) {
      for (const std::string& key : config::restart_needed(config_, *next))
        spdlog::warn("{} changed: takes effect at the next start", key);
      next = config::reloaded(config_, *std::move(next));
    }
    if (!next) {
      spdlog::error("configuration not changed: {}", next.error().message);
      return;
    }
    config_ = *std::move(next);
    log_set_level(config_.log.level);
    gateway_.set_config(config_message(config::render(config_as_bound())));
    fleet_.retry_failed();
    if (const auto applied = fleet_.apply(config_); !applied)
      spdlog::error("{}", applied.error().message);
    spdlog::info("configuration read again from {}", options_.config_file.string());
    schedule_update();
  }

  /// Looks at everything once this turn of the loop is over, however many changes it brings.
  void schedule_update() {
    if (std::exchange(update_scheduled_, true)) return;
    asio::post(loop_, [this] {
      update_scheduled_ = false;
      update();
    });
  }

  void update() {
    gateway_.set_workers(workers_message(fleet_.entries()));
    const KeptProcess::State gateway = gateway_.state();
    if (stage_ == Stage::kServing && gateway == KeptProcess::State::kFailed) {
      spdlog::error("ending, since the gateway cannot be kept running: {}", gateway_.error());
      exit_status_ = 1;
      stage_ = Stage::kDraining;
    }
    if (stage_ == Stage::kServing) announce_once();
    const bool gateway_gone =
        gateway == KeptProcess::State::kStopped || gateway == KeptProcess::State::kFailed;
    if (stage_ == Stage::kDraining && gateway_gone) {
      stage_ = Stage::kStopping;
      fleet_.terminate_all();
    }
    if (stage_ == Stage::kStopping && gateway_gone && fleet_.all_stopped()) loop_.stop();
  }

  /// Prints how to use the server as soon as every model can be used or has been given up.
  void announce_once() {
    if (announced_ || gateway_.state() != KeptProcess::State::kRunning) return;
    const auto models = fleet_.progress();
    if (!std::ranges::all_of(models, [](const auto& m) { return m.ready || m.failed; })) return;
    announced_ = true;
    clear_progress();
    Announcement announcement{.api = listeners_.api_address,
                              .admin = listeners_.admin_address,
                              .model = example_model(models),
                              .keys = !config_.keys.empty(),
                              .took = elapsed()};
    const std::string text = ready_text(announcement);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  /// The first model that can be used.
  [[nodiscard]] std::string example_model(const std::vector<ModelProgress>& models) const {
    for (const config::Model& model : config_.models) {
      const auto progress = std::ranges::find(models, model.id, &ModelProgress::id);
      if (!model.native() || (progress != models.end() && progress->ready)) return model.id;
    }
    return {};
  }

  void show_progress_after(Milliseconds delay) {
    progress_timer_.expires_after(delay);
    progress_timer_.async_wait([this](const boost::system::error_code& error) {
      if (error || announced_ || stage_ != Stage::kServing) return;
      const std::string line = progress_line(fleet_.progress(), elapsed());
      // The cursor stays at the line's start, so that a log line in between replaces it.
      std::fputs(("\r\033[K" + line + "\r").c_str(), stderr);
      progress_shown_ = !line.empty();
      show_progress_after(kProgressNext);
    });
  }

  void clear_progress() {
    if (std::exchange(progress_shown_, false)) std::fputs("\r\033[K", stderr);
  }

  [[nodiscard]] Milliseconds elapsed() const {
    return std::chrono::duration_cast<Milliseconds>(Clock::now() - started_at_);
  }

  /// With the real ports, which the gateway needs to know its own name.
  [[nodiscard]] config::Config config_as_bound() const {
    config::Config config = config_;
    config.listen = listeners_.api_address;
    config.admin.listen = listeners_.admin_address;
    return config;
  }

  const Options& options_;
  config::Config config_;
  Listeners listeners_;
  const TimePoint started_at_ = Clock::now();
  const bool had_terminal_ = ::isatty(STDIN_FILENO) != 0;
  asio::io_context loop_{1};
  asio::signal_set signals_;
  asio::signal_set child_signals_;
  asio::steady_timer progress_timer_;
  Fleet fleet_;
  GatewayProcess gateway_;
  Stage stage_ = Stage::kServing;
  bool update_scheduled_ = false;
  bool announced_ = false;
  bool progress_shown_ = false;
  int exit_status_ = 0;
};

/// A clear word now is better than ten attempts to start what is not there.
std::optional<Error> check_programs(const Options& options, const config::Config& config) {
  std::vector<std::filesystem::path> programs{options.program};
  if (std::ranges::any_of(config.models, &config::Model::native))
    programs.push_back(options.worker_program);
  for (const std::filesystem::path& program : programs) {
    if (::access(program.c_str(), X_OK) != 0)
      return fail(ErrorCode::kIo, program.string() + " is missing or not executable");
  }
  return std::nullopt;
}

int refuse(const Error& error) {
  std::fputs(fmt::format("mlx-serving: {}\n", error.message).c_str(), stderr);
  return 1;
}

}  // namespace

int run(const Options& options) {
  auto config = config::load(options.config_file, options.overrides);
  if (!config) return refuse(config.error());
  log_init("supervisor", config->log.level);
  // A reader of our output that goes away must not end the server.
  std::signal(SIGPIPE, SIG_IGN);
  keep_descriptors_to_ourselves();
  if (const auto wrong = check_programs(options, *config)) return refuse(*wrong);
  Listeners listeners;
  auto api = open_listener(config->listen, listeners.api_address);
  if (!api) return refuse(api.error());
  listeners.api = *std::move(api);
  auto admin = open_listener(config->admin.listen, listeners.admin_address);
  if (!admin) {
    remove_socket_file(listeners.api_address);
    return refuse(admin.error());
  }
  listeners.admin = *std::move(admin);
  const std::string sockets_to_remove[] = {listeners.api_address, listeners.admin_address};
  int status = 1;
  if (auto folder = RuntimeDir::create(); !folder) {
    status = refuse(folder.error());
  } else {
    status = Supervisor{options, *std::move(config), std::move(listeners), folder->path()}.run();
  }
  for (const std::string& address : sockets_to_remove) remove_socket_file(address);
  return status;
}

}  // namespace mlxs::supervisor
