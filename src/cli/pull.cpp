#include "hub/pull.h"

#include "base/log.h"
#include "cli/commands.h"
#include "hub/environment.h"
#include "hub/meter.h"
#include "hub/source.h"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

namespace mlxs::cli {
namespace {

constexpr int kUsage = 2;
constexpr int kInterrupted = 130;  // As shells say it: 128 and SIGINT.
constexpr Milliseconds kLineEvery{10'000};

struct PullCommand {
  std::string model;
  int jobs = 4;
};

std::atomic<bool> interrupted{false};

/// Ctrl-C lets the pull end tidily; the second one ends the process.
void end_on_signals() {
  struct ::sigaction action{};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // A file that may not grow is an error of the write.
}

/// On a terminal one line that is drawn again and again, else a line now and then.
class Display {
 public:
  explicit Display(std::string name) : name_(std::move(name)) {}

  void show(const hub::PullProgress& progress) {
    const TimePoint now = Clock::now();
    const std::string text = meter_.text(progress, now);
    if (terminal_) {
      const std::string bar = progress.total == 0 ? "" : drawn(progress);
      std::fprintf(stderr, "\r\033[K%s %s%s", name_.c_str(), bar.c_str(), text.c_str());
      std::fflush(stderr);
    } else if (now >= next_line_) {
      std::fprintf(stderr, "%s: %s\n", name_.c_str(), text.c_str());
      next_line_ = now + kLineEvery;
    }
  }

  void clear() const {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  static std::string drawn(const hub::PullProgress& progress) {
    constexpr std::size_t kWidth = 24;
    const auto share = static_cast<double>(progress.done) / static_cast<double>(progress.total);
    const auto filled =
        std::min(kWidth, static_cast<std::size_t>(share * static_cast<double>(kWidth)));
    return "[" + std::string(filled, '=') + std::string(kWidth - filled, ' ') + "] ";
  }

  const std::string name_;
  const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  hub::Meter meter_{Clock::now()};
  TimePoint next_line_ = Clock::now() + kLineEvery;
};

void print(const hub::Source& source, const hub::Pulled& pulled) {
  const std::string name = source.to_string();
  const std::string id = source.repository.substr(source.repository.find('/') + 1);
  if (pulled.files > 0) {
    std::printf("%s: %zu file%s, %s, of which %s came now\n",
                name.c_str(),
                pulled.files,
                pulled.files == 1 ? "" : "s",
                hub::format_bytes(pulled.progress.total).c_str(),
                hub::format_bytes(pulled.progress.transferred).c_str());
  } else {
    std::printf("%s: in the cache; not asked whether there is something newer\n", name.c_str());
  }
  std::printf("commit  %s\npath    %s\nconfig  models: [ { id: %s, source: \"%s\" } ]\n",
              pulled.commit.c_str(),
              pulled.path.c_str(),
              id.c_str(),
              name.c_str());
}

int fail_with(const Error& error) {
  std::fprintf(stderr, "mlx-serving: %s\n", error.message.c_str());
  return error.code == ErrorCode::kCancelled ? kInterrupted : 1;
}

int pull(const PullCommand& command) {
  const auto source = hub::parse_source(command.model);
  if (!source) {
    std::fprintf(stderr,
                 "mlx-serving: %s: expected ORG/NAME, ORG/NAME@REVISION or ORG/NAME:FILE.gguf\n",
                 command.model.c_str());
    return kUsage;
  }
  log_init("pull", "warn");
  auto environment = hub::read_environment();
  if (!environment) return fail_with(environment.error());
  end_on_signals();
  Display display{source->to_string()};
  const auto pulled = hub::pull({.source = *source,
                                 .environment = *environment,
                                 .jobs = command.jobs,
                                 .on_progress = [&](const auto& now) { display.show(now); }},
                                interrupted);
  display.clear();
  if (pulled) {
    print(*source, *pulled);
    return 0;
  }
  if (pulled.error().code == ErrorCode::kCancelled) {
    std::fputs("mlx-serving: stopped; the same command goes on where this one ended\n", stderr);
    return kInterrupted;
  }
  return fail_with(pulled.error());
}

}  // namespace

void add_pull(CLI::App& app, Action& action) {
  auto options = std::make_shared<PullCommand>();
  CLI::App* const command =
      app.add_subcommand("pull", "Download a model from a hub into the hub's cache");
  command
      ->add_option(
          "model", options->model, "ORG/NAME, a revision with @REVISION, one GGUF with :FILE.gguf")
      ->required()
      ->type_name("MODEL");
  command->add_option("-j,--jobs", options->jobs, "Files at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->footer(
      "Honours HF_ENDPOINT, HF_TOKEN (else the token file), HF_HOME, HF_HUB_CACHE and "
      "HF_HUB_OFFLINE.\nWhat a broken or stopped pull has fetched is kept; the same command goes "
      "on from there.");
  command->callback([options, &action] { action = [options] { return pull(*options); }; });
}

}  // namespace mlxs::cli
