#include "gateway/stages/request_id.h"

#include "base/ids.h"

#include <algorithm>
#include <string_view>

namespace mlxs::gateway {
namespace {

bool sane(std::string_view id) {
  return !id.empty() && id.size() <= 128 && std::ranges::all_of(id, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == ':';
  });
}

}  // namespace

std::string request_id(const http::Request& request) {
  const auto given = request.headers.get("x-request-id");
  if (given && sane(*given)) return std::string{*given};
  return random_id("req_");
}

}  // namespace mlxs::gateway
