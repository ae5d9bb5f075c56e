#include "supervisor/kept_process.h"

#include "base/log.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <utility>

namespace mlxs::supervisor {

std::shared_ptr<KeptProcess> KeptProcess::create(boost::asio::io_context& loop,
                                                 std::string name,
                                                 const RestartLimits& limits,
                                                 Hooks hooks) {
  return std::shared_ptr<KeptProcess>{
      new KeptProcess{loop, std::move(name), limits, std::move(hooks)}};
}

KeptProcess::KeptProcess(boost::asio::io_context& loop,
                         std::string name,
                         const RestartLimits& limits,
                         Hooks hooks)
    : name_(std::move(name)), policy_(limits), hooks_(std::move(hooks)), timer_(loop) {}

KeptProcess::~KeptProcess() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void KeptProcess::start() {
  if (state_ != State::kStopped && state_ != State::kFailed) return;
  policy_.forgive();
  restarts_ = 0;
  error_.clear();
  launch();
}

void KeptProcess::launch() {
  auto pid = hooks_.launch();
  if (!pid) {
    // Nothing was started: a missing program or no descriptors left. Trying again may help only
    // the latter, and the policy bounds that.
    handle_end({.reason = pid.error().message});
    return;
  }
  pid_ = *pid;
  set_state(State::kStarting);
}

void KeptProcess::mark_ready() {
  if (state_ != State::kStarting) return;
  policy_.ready(Clock::now());
  set_state(State::kRunning);
}

void KeptProcess::expect_end(Milliseconds grace) {
  ++timer_round_;
  if (pid_ <= 0) {
    set_state(State::kStopped);
    return;
  }
  after(grace, &KeptProcess::kill);
  set_state(State::kStopping);
}

void KeptProcess::terminate(Milliseconds grace) {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
  expect_end(grace);
}

void KeptProcess::kill() {
  ++timer_round_;
  if (pid_ > 0) ::kill(pid_, SIGKILL);
  set_state(pid_ > 0 ? State::kStopping : State::kStopped);
}

void KeptProcess::reap() {
  if (pid_ <= 0) return;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return;
  pid_ = -1;
  handle_end(hooks_.ended(status));
}

void KeptProcess::handle_end(const Verdict& verdict) {
  ++timer_round_;
  if (state_ == State::kStopping) {
    set_state(State::kStopped);
    return;
  }
  error_ = verdict.reason;
  const auto delay = verdict.permanent ? std::nullopt : policy_.exited(Clock::now());
  if (!delay) {
    spdlog::error("{} failed: {}{}",
                  name_,
                  error_,
                  verdict.permanent ? "" : "; it ended too often to be started again");
    set_state(State::kFailed);
    return;
  }
  ++restarts_;
  spdlog::warn("{} ended: {}; next start in {} ms", name_, error_, delay->count());
  after(*delay, &KeptProcess::launch);
  set_state(State::kBackoff);
}

Milliseconds KeptProcess::retry_in() const {
  if (state_ != State::kBackoff) return Milliseconds{0};
  return Deadline::at(timer_.expiry()).left().value_or(Milliseconds{0});
}

void KeptProcess::after(Milliseconds delay, void (KeptProcess::*action)()) {
  timer_.expires_after(delay);
  timer_.async_wait([weak = weak_from_this(), round = ++timer_round_, action](
                        const boost::system::error_code& error) {
    const auto self = weak.lock();
    // The round tells a timer that was replaced after it had fired.
    if (!error && self && self->timer_round_ == round) ((*self).*action)();
  });
}

void KeptProcess::set_state(State state) {
  if (std::exchange(state_, state) != state) hooks_.changed();
}

}  // namespace mlxs::supervisor
