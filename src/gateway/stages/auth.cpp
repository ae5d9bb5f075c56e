#include "gateway/stages/auth.h"

#include "base/hash.h"

#include <cctype>
#include <string_view>

namespace mlxs::gateway {
namespace {

// The scheme's name is case-insensitive (RFC 9110 §11.1).
std::string_view bearer_secret(std::string_view value) {
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() < kScheme.size()) return {};
  for (std::size_t i = 0; i < kScheme.size(); ++i)
    if (std::tolower(static_cast<unsigned char>(value[i])) != kScheme[i]) return {};
  value.remove_prefix(kScheme.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  return value;
}

}  // namespace

Result<std::string> authenticate(std::span<const config::Key> keys, const http::Request& request) {
  if (keys.empty()) return std::string{};
  const auto header = request.headers.get("authorization");
  if (!header)
    return fail(ErrorCode::kUnauthorized,
                "[auth] no API key given; send it as \"Authorization: Bearer KEY\"");
  const Sha256 given = sha256(bearer_secret(*header));
  const config::Key* found = nullptr;
  for (const config::Key& key : keys)
    if (equal_constant_time(key.sha256, given)) found = &key;
  if (found == nullptr) return fail(ErrorCode::kUnauthorized, "[auth] the API key is not known");
  return found->name;
}

}  // namespace mlxs::gateway
