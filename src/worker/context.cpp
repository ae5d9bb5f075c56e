#include "worker/context.h"

#include <chrono>
#include <utility>

namespace mlxs::worker {
namespace {

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace

Context::Context(const Options& options_in, boost::asio::io_context& loop, ModelLoader loader)
    : options(options_in),
      started_at(unix_seconds()),
      metrics(options.id),
      generations(loop.get_executor()),
      model(loop,
            std::move(loader),
            engine::EngineLimits{.sequences_max = options.sequences_max,
                                 .waiting_max = options.waiting_max,
                                 .step_tokens_max = options.step_tokens_max,
                                 .prefix_cache = options.prefix_cache,
                                 .latency_budget = options.latency_budget,
                                 .first_token_max = options.first_token_max},
            metrics),
      changed(loop.get_executor()) {}

}  // namespace mlxs::worker
