#include "gateway/sharing/fingerprint.h"

#include "api/canonical.h"
#include "api/json_text.h"

#include <utility>

namespace mlxs::gateway {

FingerprintPtr make_fingerprint(const FingerprintScope& scope, const boost::json::object& body) {
  auto result = std::make_shared<Fingerprint>();
  std::string canonical;
  // As JSON strings, so that no name can run into the next.
  for (const std::string_view part :
       {Fingerprint::kVersion,
        scope.tenant,
        scope.model,
        scope.generation,
        scope.surface == api::Surface::kChat ? std::string_view{"chat"}
                                             : std::string_view{"completions"},
        scope.native ? std::string_view{"native"} : std::string_view{"foreign"}}) {
    api::append_json_string(canonical, part);
    canonical += ',';
  }
  api::append_canonical(canonical, scope.surface, body, scope.native);
  canonical.shrink_to_fit();
  result->digest = sha256(canonical);
  result->canonical = std::move(canonical);
  result->tenant = scope.tenant;
  result->model = scope.model;
  return result;
}

}  // namespace mlxs::gateway
