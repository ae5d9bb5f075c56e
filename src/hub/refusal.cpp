#include "hub/refusal.h"

#include <fmt/format.h>

namespace mlxs::hub {
namespace {

Error no_repository(const Source& source, std::string_view endpoint, bool with_token) {
  return fail(
      with_token ? ErrorCode::kNotFound : ErrorCode::kUnauthorized,
      fmt::format("[hub] there is no repository {} at {}, or it is private{}",
                  source.repository,
                  endpoint,
                  with_token ? " and the token may not read it"
                             : "; for a private one set HF_TOKEN or log in with `hf auth login`"));
}

Error gated(const Source& source, std::string_view endpoint, bool with_token) {
  return fail(ErrorCode::kForbidden,
              fmt::format("[hub] {0} is gated: accept its conditions at {1}/{0}{2}",
                          source.repository,
                          endpoint,
                          with_token ? " with the account that the token belongs to"
                                     : ", then set HF_TOKEN or log in with `hf auth login`"));
}

}  // namespace

Error refusal(const Reply& reply,
              const Source& source,
              std::string_view endpoint,
              bool with_token) {
  const int status = reply.status;
  if (!reply.from_hub || status == 408 || status == 429 || status >= 500)
    return fail(ErrorCode::kUnavailable,
                fmt::format("[hub] {} answered {} for {}",
                            reply.from_hub ? endpoint : "its storage",
                            status,
                            source.to_string()));
  if (reply.error_code == "GatedRepo") return gated(source, endpoint, with_token);
  if (reply.error_code == "RevisionNotFound")
    return fail(ErrorCode::kNotFound,
                fmt::format("[hub] {} has no revision {}", source.repository, source.revision));
  if (reply.error_code == "EntryNotFound")
    return fail(
        ErrorCode::kNotFound,
        fmt::format("[hub] {}@{} lacks a file that it lists", source.repository, source.revision));
  // The hub does not tell strangers whether a repository is missing or private.
  if (reply.error_code == "RepoNotFound" || status == 404 || (status == 401 && !with_token))
    return no_repository(source, endpoint, with_token);
  if (status == 401)
    return fail(
        ErrorCode::kUnauthorized,
        fmt::format("[hub] {} does not accept the token (HF_TOKEN or the token file)", endpoint));
  if (status == 403)
    return fail(ErrorCode::kForbidden,
                fmt::format("[hub] {} forbids reading {}{}",
                            endpoint,
                            source.repository,
                            with_token ? ": the token lacks the permission"
                                       : ": set HF_TOKEN or log in with `hf auth login`"));
  return fail(ErrorCode::kIo,
              fmt::format("[hub] {} answered {} for {}", endpoint, status, source.to_string()));
}

}  // namespace mlxs::hub
