#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <memory>

namespace mlxs {

void log_init(std::string_view process, std::string_view level) {
  auto logger = std::make_shared<spdlog::logger>(std::string{process},
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l [%n] %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  log_set_level(level);
}

void log_set_level(std::string_view level) {
  spdlog::set_level(spdlog::level::from_str(std::string{level}));
}

}  // namespace mlxs
