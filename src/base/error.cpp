#include "base/error.h"

#include "base/assert.h"

#include <array>

namespace mlxs {
namespace {

constexpr std::string_view kBadRequest = "invalid_request_error";
constexpr std::string_view kServer = "server_error";

// In the order of the enumerators; error_test walks all of them.
constexpr std::array kTable{
    ErrorInfo{
        ErrorCode::kInvalidRequest, 400, kBadRequest, "invalid_value", false, "invalid_request"},
    ErrorInfo{ErrorCode::kContextLengthExceeded,
              400,
              kBadRequest,
              "context_length_exceeded",
              false,
              "context_length"},
    ErrorInfo{ErrorCode::kUnsupportedParameter,
              400,
              kBadRequest,
              "unsupported_parameter",
              false,
              "unsupported_parameter"},
    ErrorInfo{ErrorCode::kUnauthorized,
              401,
              "authentication_error",
              "invalid_api_key",
              false,
              "unauthorized"},
    ErrorInfo{ErrorCode::kForbidden, 403, "permission_error", "forbidden", false, "forbidden"},
    ErrorInfo{ErrorCode::kNotFound, 404, kBadRequest, "not_found", false, "not_found"},
    ErrorInfo{
        ErrorCode::kModelNotFound, 404, kBadRequest, "model_not_found", false, "model_not_found"},
    ErrorInfo{ErrorCode::kMethodNotAllowed,
              405,
              kBadRequest,
              "method_not_allowed",
              false,
              "method_not_allowed"},
    ErrorInfo{
        ErrorCode::kRequestTimeout, 408, kBadRequest, "request_timeout", true, "request_timeout"},
    ErrorInfo{ErrorCode::kPayloadTooLarge,
              413,
              kBadRequest,
              "request_too_large",
              false,
              "payload_too_large"},
    ErrorInfo{ErrorCode::kHeadersTooLarge,
              431,
              kBadRequest,
              "headers_too_large",
              false,
              "headers_too_large"},
    ErrorInfo{ErrorCode::kUnsupportedMedia,
              415,
              kBadRequest,
              "unsupported_media_type",
              false,
              "unsupported_media"},
    ErrorInfo{ErrorCode::kOverloaded, 429, "rate_limit_error", "overloaded", true, "overloaded"},
    ErrorInfo{ErrorCode::kUnavailable, 503, kServer, "unavailable", true, "unavailable"},
    ErrorInfo{
        ErrorCode::kModelLoadFailed, 503, kServer, "model_load_failed", false, "model_load_failed"},
    ErrorInfo{ErrorCode::kShuttingDown, 503, kServer, "shutting_down", true, "shutting_down"},
    ErrorInfo{
        ErrorCode::kDeadlineExceeded, 504, "timeout_error", "deadline_exceeded", false, "deadline"},
    ErrorInfo{ErrorCode::kWorkerLost, 502, kServer, "worker_lost", true, "worker_lost"},
    ErrorInfo{ErrorCode::kWorkerProtocol, 502, kServer, "worker_protocol", true, "worker_protocol"},
    ErrorInfo{ErrorCode::kCancelled, 499, kBadRequest, "cancelled", false, "cancelled"},
    ErrorInfo{ErrorCode::kOutOfMemory, 507, kServer, "out_of_memory", false, "out_of_memory"},
    ErrorInfo{ErrorCode::kConfig, 400, kBadRequest, "invalid_configuration", false, "config"},
    ErrorInfo{ErrorCode::kIo, 500, kServer, "io_error", true, "io"},
    ErrorInfo{ErrorCode::kCorruptFile, 503, kServer, "corrupt_model_file", false, "corrupt_file"},
    ErrorInfo{ErrorCode::kInternal, 500, kServer, "internal_error", true, "internal"},
};

}  // namespace

const ErrorInfo& error_info(ErrorCode code) {
  const auto index = static_cast<std::size_t>(code);
  MLXS_ASSERT(index < kTable.size());
  MLXS_ASSERT(kTable[index].code == code);
  return kTable[index];
}

}  // namespace mlxs
