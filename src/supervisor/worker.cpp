#include "supervisor/worker.h"

#include "base/log.h"
#include "http/address.h"
#include "supervisor/output_reader.h"
#include "supervisor/process.h"

#include <fmt/format.h>

#include <sys/wait.h>

#include <chrono>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mlxs::supervisor {
namespace {

constexpr int kLifelineFd = 3;
constexpr int kListenFd = 4;
constexpr int kCannotLoad = 78;  // EX_CONFIG of sysexits.h
// The gateway has been told that this worker stops; requests already on their way to it arrive
// within this time.
constexpr std::chrono::seconds kRetireSettle{1};

std::string_view state_name(KeptProcess::State state) {
  using State = KeptProcess::State;
  switch (state) {
    case State::kStarting:
      return "starting";
    case State::kRunning:
      return "running";
    case State::kBackoff:
      return "backoff";
    case State::kFailed:
      return "failed";
    case State::kStopped:
    case State::kStopping:
      break;
  }
  return "stopping";
}

http::Address socket_address(const Worker::Settings& settings) {
  http::Address address;
  address.kind = http::Address::Kind::kUnix;
  address.path = settings.socket.string();
  return address;
}

}  // namespace

std::vector<std::string> worker_arguments(const Worker::Settings& settings) {
  const config::Model& model = settings.model;
  std::vector<std::string> arguments{"--id",
                                     model.id,
                                     "--source",
                                     model.source,
                                     "--compute",
                                     model.compute,
                                     "--max-sequences",
                                     std::to_string(model.sequences_max),
                                     "--step-tokens",
                                     std::to_string(model.step_tokens_max),
                                     "--latency-budget-ms",
                                     std::to_string(model.latency_budget.count()),
                                     "--first-token-ms",
                                     std::to_string(model.first_token_max.count()),
                                     "--prefix-cache",
                                     model.prefix_cache ? "on" : "off",
                                     "--waiting",
                                     std::to_string(model.waiting_max)};
  const auto add = [&arguments](std::string name, std::string value) {
    arguments.push_back(std::move(name));
    arguments.push_back(std::move(value));
  };
  if (model.context_tokens_max) add("--context-tokens", std::to_string(*model.context_tokens_max));
  if (model.kv_bytes) add("--kv-bytes", std::to_string(*model.kv_bytes));
  if (settings.packed_bytes_max > 0) {
    add("--packed-folder", settings.packed_folder.string());
    add("--packed-bytes", std::to_string(settings.packed_bytes_max));
  }
  add("--threads", std::to_string(settings.threads));
  add("--listen-fd", std::to_string(kListenFd));
  add("--lifeline-fd", std::to_string(kLifelineFd));
  add("--log-level", settings.log_level);
  return arguments;
}

Result<std::shared_ptr<Worker>> Worker::create(boost::asio::io_context& loop,
                                               Settings settings,
                                               std::function<void()> changed) {
  const auto listener = http::listen_on(socket_address(settings));
  if (!listener) return listener.error();
  return std::shared_ptr<Worker>{
      new Worker{loop, std::move(settings), Fd{*listener}, std::move(changed)}};
}

Worker::Worker(boost::asio::io_context& loop,
               Settings settings,
               Fd listener,
               std::function<void()> changed)
    : loop_(loop),
      settings_(std::move(settings)),
      changed_(std::move(changed)),
      listener_(std::move(listener)),
      process_(KeptProcess::create(loop,
                                   "worker " + settings_.id,
                                   settings_.restarts,
                                   {.launch = [this] { return launch(); },
                                    .ended = [this](int status) { return ended(status); },
                                    .changed = [this] { changed_(); }})),
      retire_timer_(loop) {}

Worker::~Worker() {
  std::error_code ignored;
  std::filesystem::remove(settings_.socket, ignored);
}

void Worker::start() { process_->start(); }

void Worker::retry() {
  if (process_->state() == KeptProcess::State::kFailed) process_->start();
}

void Worker::retire(Milliseconds drain, Milliseconds grace) {
  if (retire_until_) return;
  retire_since_ = Clock::now();
  retire_until_ = retire_since_ + drain;
  retire_grace_ = grace;
  if (process_->state() != KeptProcess::State::kRunning) {
    process_->terminate(grace);  // nothing can be running on it
    return;
  }
  process_->expect_end(drain + grace);
  retire_timer_.expires_at(*retire_until_);
  retire_timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (!error && self) self->process_->terminate(self->retire_grace_);
  });
}

void Worker::terminate(Milliseconds grace) { process_->terminate(grace); }
void Worker::kill() { process_->kill(); }
void Worker::reap() { process_->reap(); }

WorkerEntry Worker::entry() const {
  return {.id = settings_.id,
          .model = settings_.model.id,
          .address = socket_address(settings_).to_string(),
          .pid = static_cast<int>(process_->pid()),
          .state = std::string{state_name(process_->state())},
          .restarts = process_->restarts(),
          .error = process_->error(),
          .retry_in_ms = process_->retry_in().count()};
}

Result<pid_t> Worker::launch() {
  auto lifeline = make_pipe();
  if (!lifeline) return lifeline.error();
  auto output = make_pipe();
  if (!output) return output.error();
  auto pid =
      spawn({.program = settings_.program,
             .arguments = worker_arguments(settings_),
             .descriptors = {{lifeline->read.get(), kLifelineFd}, {listener_.get(), kListenFd}},
             .output = output->write.get()});
  if (!pid) return pid.error();
  lifeline_ = std::move(lifeline->write);
  output_ = std::make_shared<OutputReader>(loop_, std::move(output->read));
  output_->start();
  load_progress_ = 0;
  pulling_ = false;
  watch_ = std::make_unique<StateWatch>(
      loop_, socket_address(settings_), [weak = weak_from_this()](const WorkerState& state) {
        if (const auto self = weak.lock()) self->on_state(state);
      });
  return pid;
}

KeptProcess::Verdict Worker::ended(int status) {
  watch_.reset();
  lifeline_.reset();
  const std::string last_line = output_->finish();
  output_.reset();
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCannotLoad)
    return {.reason = last_line.empty() ? "the model cannot be loaded" : last_line,
            .permanent = true};
  std::string reason = describe_exit(status);
  if (!last_line.empty() && !WIFSIGNALED(status)) reason += ": " + last_line;
  return {.reason = std::move(reason)};
}

void Worker::on_state(const WorkerState& state) {
  if (retire_until_) {
    if (state.unfinished == 0 && Clock::now() - retire_since_ >= kRetireSettle &&
        retire_timer_.cancel() > 0)
      process_->terminate(retire_grace_);
    return;
  }
  load_progress_ = state.load_progress;
  pulling_ = state.pulling;
  if (state.ready) process_->mark_ready();
}

}  // namespace mlxs::supervisor
