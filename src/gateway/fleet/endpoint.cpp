#include "gateway/fleet/endpoint.h"

namespace mlxs::gateway {

Result<Endpoint> parse_endpoint(std::string_view url) {
  if (url.starts_with("unix:")) {
    auto address = http::Address::parse(url);
    if (!address) return fail(ErrorCode::kConfig, address.error().message);
    return Endpoint{std::move(*address), "/v1"};
  }
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme))
    return fail(ErrorCode::kConfig,
                "[worker] expected a URL of the form http://host:port/path or unix:/path, got \"" +
                    std::string{url} + "\"");
  url.remove_prefix(kScheme.size());
  const std::size_t slash = url.find('/');
  std::string authority{url.substr(0, slash)};
  std::string base_path{slash == std::string_view::npos ? std::string_view{} : url.substr(slash)};
  while (base_path.ends_with('/')) base_path.pop_back();
  const std::size_t colon = authority.rfind(':');
  if (colon == std::string::npos || authority.find(']', colon) != std::string::npos)
    authority += ":80";
  auto address = http::Address::parse(authority);
  if (!address) return fail(ErrorCode::kConfig, address.error().message);
  return Endpoint{std::move(*address), std::move(base_path)};
}

}  // namespace mlxs::gateway
