#include "gateway/settings.h"

#include "http/address.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>

namespace mlxs::gateway {
namespace {

std::string lower(std::string text) {
  std::ranges::transform(
      text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Hosts are compared without their port. An address with several colons is a bare IPv6 one.
std::string without_port(const std::string& host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  const std::size_t colon = host.find(':');
  return colon == host.rfind(':') ? host.substr(0, colon) : host;
}

GuardRules guard_rules(const config::Config& config, const std::string& listen) {
  GuardRules rules;
  rules.origins = config.allowed_origins;
  rules.hosts = {"localhost", "127.0.0.1", "::1"};
  for (const std::string& host : config.allowed_hosts)
    rules.hosts.push_back(lower(without_port(host)));
  const auto address = http::Address::parse(listen);
  if (!address) return rules;
  if (address->kind == http::Address::Kind::kUnix) {
    rules.any_host = true;
  } else {
    rules.any_ip_literal = address->host == "0.0.0.0" || address->host == "::";
    rules.hosts.push_back(lower(address->host));
  }
  return rules;
}

}  // namespace

Result<SettingsPtr> Settings::parse(std::string_view yaml) {
  auto config = config::parse(yaml, "configuration");
  if (!config) return config.error();
  return make(std::move(*config));
}

SettingsPtr Settings::make(config::Config config) {
  auto settings = std::make_shared<Settings>();
  settings->config = std::move(config);
  const config::Config& ours = settings->config;
  for (const config::Model& model : ours.models) settings->models.emplace(model.id, &model);
  settings->api_guard = guard_rules(ours, ours.listen);
  settings->admin_guard = guard_rules(ours, ours.admin.listen);
  settings->loaded_at = std::chrono::duration_cast<std::chrono::seconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
  return SettingsPtr{std::move(settings)};
}

http::Limits Settings::http_limits() const {
  http::Limits limits;
  limits.head_bytes_max = config.limits.head_bytes;
  limits.body_bytes_max = config.limits.body_bytes;
  limits.connections_max = static_cast<std::size_t>(config.limits.connections);
  limits.connections_per_address_max =
      static_cast<std::size_t>(config.limits.connections_per_address);
  limits.head_read = config.limits.head_read;
  limits.body_stall = config.limits.body_stall;
  limits.idle = config.limits.idle;
  limits.write_stall = config.limits.write_stall;
  return limits;
}

}  // namespace mlxs::gateway
