#include "gateway/app.h"

#include "gateway/gateway.h"
#include "gateway/tuning.h"

#include <csignal>

namespace mlxs::gateway {

int run_gateway(const GatewayFds& fds) {
  // A terminal's Ctrl-C reaches the whole process group; only the supervisor decides what it means.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  Gateway gateway{fds, Tuning{}};
  return gateway.run();
}

}  // namespace mlxs::gateway
