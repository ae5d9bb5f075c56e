#pragma once

#include "base/result.h"
#include "http/address.h"

#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Where a worker answers: an address and what comes before "/chat/completions".
struct Endpoint {
  http::Address address;
  std::string base_path;
};

/// "http://host[:port][/path]" (port 80 and path "" by default), or "unix:/path" (path "/v1").
/// kConfig for anything else.
[[nodiscard]] Result<Endpoint> parse_endpoint(std::string_view url);

}  // namespace mlxs::gateway
