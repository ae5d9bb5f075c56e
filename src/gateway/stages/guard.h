#pragma once

#include "base/result.h"
#include "gateway/settings.h"
#include "http/message.h"

#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Keeps web pages out, which reach a local server through the user's browser: by DNS rebinding
/// (the Host header then names the page's domain) or by plain cross-site requests (they carry an
/// Origin). Host must be a loopback name, the listen address or one of allowed_hosts, with any
/// port; where the listener takes every address, IP literals pass as well, since a rebound name is
/// never one. A request with an Origin passes only if allowed_origins lists it.
/// Gives the allowed origin ("" for requests without one), or kForbidden.
[[nodiscard]] Result<std::string> check_guards(const GuardRules& rules,
                                               const http::Request& request);

/// Lets a page of `origin` read the answer. Nothing for an empty origin.
void add_cors_headers(http::Headers& headers, const std::string& origin);

/// Whether `request` is a browser's question before a cross-site request.
[[nodiscard]] bool is_preflight(const http::Request& request);
/// Its answer for an origin that check_guards let pass.
[[nodiscard]] http::Response preflight_response(const std::string& origin, std::string_view allow);

/// POST bodies are JSON: kUnsupportedMedia unless content-type is application/json (parameters such
/// as charset are fine). Browsers cannot send that type across sites without asking first.
[[nodiscard]] Result<void> check_content_type(const http::Request& request);

}  // namespace mlxs::gateway
