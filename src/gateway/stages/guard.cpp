#include "gateway/stages/guard.h"

#include <boost/asio/ip/address.hpp>

#include <algorithm>
#include <cctype>

namespace mlxs::gateway {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// "Example.com:80" → "Example.com"; "[::1]:80" → "::1".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.rfind(':'));
}

bool is_ip_literal(std::string_view host) {
  boost::system::error_code ignored;
  boost::asio::ip::make_address(std::string{host}, ignored);
  return !ignored;
}

bool host_allowed(const GuardRules& rules, std::string_view host) {
  const std::string_view name = without_port(host);
  if (std::ranges::any_of(rules.hosts,
                          [&](const std::string& h) { return equal_ignoring_case(h, name); }))
    return true;
  return rules.any_ip_literal && is_ip_literal(name);
}

}  // namespace

Result<std::string> check_guards(const GuardRules& rules, const http::Request& request) {
  if (!rules.any_host) {
    const auto host = request.headers.get("host");
    if (!host || !host_allowed(rules, *host))
      return fail(ErrorCode::kForbidden,
                  "[guard] this Host is not served here; add it to allowed_hosts if it should be");
  }
  const auto origin = request.headers.get("origin");
  if (!origin) return std::string{};
  if (std::ranges::find(rules.origins, *origin) == rules.origins.end())
    return fail(ErrorCode::kForbidden,
                "[guard] web pages of this Origin may not call; add it to allowed_origins if they "
                "should");
  return std::string{*origin};
}

void add_cors_headers(http::Headers& headers, const std::string& origin) {
  if (origin.empty()) return;
  headers.add("access-control-allow-origin", origin);
  headers.add("access-control-expose-headers", "x-request-id, retry-after");
  headers.add("vary", "origin");
}

bool is_preflight(const http::Request& request) {
  return request.method == "OPTIONS" && request.headers.get("origin") &&
         request.headers.get("access-control-request-method");
}

http::Response preflight_response(const std::string& origin, std::string_view allow) {
  http::Response response;
  response.status = 204;
  add_cors_headers(response.headers, origin);
  response.headers.add("access-control-allow-methods", std::string{allow});
  response.headers.add("access-control-allow-headers",
                       "authorization, content-type, x-request-id, x-request-timeout-ms, "
                       "x-stainless-read-timeout, x-stainless-timeout, x-stainless-retry-count, "
                       "x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-runtime, "
                       "x-stainless-runtime-version, x-stainless-package-version");
  response.headers.add("access-control-max-age", "600");
  return response;
}

Result<void> check_content_type(const http::Request& request) {
  const auto type = request.headers.get("content-type");
  std::string_view media = type ? *type : std::string_view{};
  media = media.substr(0, media.find(';'));
  while (media.ends_with(' ')) media.remove_suffix(1);
  if (equal_ignoring_case(media, "application/json")) return {};
  return fail(ErrorCode::kUnsupportedMedia,
              "[http] expected content-type application/json, got " +
                  (media.empty() ? std::string{"none"} : "\"" + std::string{media} + "\""));
}

}  // namespace mlxs::gateway
