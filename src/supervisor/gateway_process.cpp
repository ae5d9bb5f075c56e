#include "supervisor/gateway_process.h"

#include "supervisor/process.h"

#include <string_view>
#include <utility>

namespace mlxs::supervisor {
namespace {

// gateway/app.h: GatewayFds.
constexpr int kControlFd = 3;
constexpr int kApiFd = 4;
constexpr int kAdminFd = 5;

}  // namespace

GatewayProcess::GatewayProcess(boost::asio::io_context& loop,
                               Settings settings,
                               std::function<void()> changed)
    : loop_(loop),
      settings_(std::move(settings)),
      process_(KeptProcess::create(loop,
                                   "gateway",
                                   settings_.restarts,
                                   {.launch = [this] { return launch(); },
                                    .ended =
                                        [this](int status) {
                                          channel_.reset();
                                          return KeptProcess::Verdict{.reason =
                                                                          describe_exit(status)};
                                        },
                                    .changed = std::move(changed)})) {}

void GatewayProcess::start() { process_->start(); }

void GatewayProcess::set_config(std::string message) {
  config_ = std::move(message);
  if (channel_) channel_->send_config(config_);
}

void GatewayProcess::set_workers(std::string message) {
  if (message == workers_) return;
  workers_ = std::move(message);
  if (channel_) channel_->send_workers(workers_);
}

void GatewayProcess::drain(Milliseconds grace) {
  if (channel_) channel_->send_drain();
  process_->expect_end(grace);
}

void GatewayProcess::kill() { process_->kill(); }
void GatewayProcess::reap() { process_->reap(); }

Result<pid_t> GatewayProcess::launch() {
  auto control = make_socket_pair();
  if (!control) return control.error();
  auto pid = spawn({.program = settings_.program,
                    .arguments = {"gateway"},
                    .descriptors = {{control->write.get(), kControlFd},
                                    {settings_.api, kApiFd},
                                    {settings_.admin, kAdminFd}}});
  if (!pid) return pid.error();
  channel_ = std::make_unique<ControlChannel>(
      loop_, std::move(control->read), [this](std::string_view type) {
        if (type == "ready") process_->mark_ready();
      });
  channel_->send_config(config_);
  channel_->send_workers(workers_);
  return pid;
}

}  // namespace mlxs::supervisor
