#pragma once

#include "base/result.h"
#include "config/config.h"
#include "http/limits.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::gateway {

/// Which Host and Origin headers a listener takes; see stages/guard.h.
struct GuardRules {
  bool any_host = false;           ///< A unix listener: no browser reaches it.
  bool any_ip_literal = false;     ///< Listens on a wildcard address.
  std::vector<std::string> hosts;  ///< Lower case, without port.
  std::vector<std::string> origins;
};

/// One configuration with what requests look up in it made ready. A snapshot: a request keeps the
/// one it began with.
struct Settings {
  config::Config config;
  std::map<std::string, const config::Model*, std::less<>> models;  // into `config`
  GuardRules api_guard;
  GuardRules admin_guard;
  std::int64_t loaded_at = 0;  ///< Unix seconds.

  Settings() = default;
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  /// From the YAML of a `config` message. kConfig.
  [[nodiscard]] static Result<std::shared_ptr<const Settings>> parse(std::string_view yaml);
  [[nodiscard]] static std::shared_ptr<const Settings> make(config::Config config);

  [[nodiscard]] const config::Model* find_model(std::string_view id) const {
    const auto it = models.find(id);
    return it == models.end() ? nullptr : it->second;
  }
  [[nodiscard]] http::Limits http_limits() const;
};
using SettingsPtr = std::shared_ptr<const Settings>;

}  // namespace mlxs::gateway
