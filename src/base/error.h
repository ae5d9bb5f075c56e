#pragma once

#include <string>
#include <string_view>

namespace mlxs {

/// What went wrong, in the terms in which clients, metrics and retries tell failures apart.
/// `error_info` is the one table that says what each means outside.
enum class ErrorCode {
  kInvalidRequest,         ///< The request's content is wrong; `Error::param` names the field.
  kContextLengthExceeded,  ///< The prompt leaves no room in the model's context.
  kUnsupportedParameter,   ///< A documented field that this server cannot honour (yet).
  kUnauthorized,           ///< No or an unknown API key.
  kForbidden,              ///< Host or Origin guard.
  kNotFound,               ///< No such route or object.
  kModelNotFound,          ///< No model of that name is configured.
  kMethodNotAllowed,       ///< The route exists, this method does not.
  kRequestTimeout,         ///< The client took too long to send its request.
  kPayloadTooLarge,        ///< The body exceeds its limit.
  kHeadersTooLarge,        ///< The head exceeds its limit.
  kUnsupportedMedia,       ///< A body that is not application/json.
  kOverloaded,             ///< A bounded queue or the in-flight limit is full (429).
  kUnavailable,            ///< Nothing can serve this at the moment; a retry may succeed (503).
  kModelLoadFailed,        ///< The model cannot be loaded; a retry cannot help (503).
  kShuttingDown,           ///< This process is draining (503).
  kDeadlineExceeded,       ///< The request's own deadline passed (504).
  kWorkerLost,             ///< The worker ended or its connection broke under the attempt (502).
  kWorkerProtocol,         ///< The worker answered something that is not the protocol (502).
  kCancelled,              ///< The client left. An outcome, not an error; never sent.
  kOutOfMemory,            ///< Does not fit into the memory budget (507).
  kConfig,                 ///< The configuration is wrong (process start and reload only).
  kIo,                     ///< A file or socket operation failed.
  kCorruptFile,            ///< A model file is truncated, malformed or inconsistent.
  kInternal,               ///< A fault of ours.
};

/// A failure as a value. `message` is one sentence: what was expected, what came.
/// `param` is the request field or configuration key at fault, empty if none.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string param = {};
};

/// What an error code means to the world.
struct ErrorInfo {
  ErrorCode code;
  int http_status;             ///< Status of the answer when nothing has been sent yet.
  std::string_view type;       ///< OpenAI `error.type`.
  std::string_view wire_code;  ///< OpenAI `error.code`; empty renders as null.
  bool may_retry;              ///< Whether a client's retry can help (x-should-retry).
  std::string_view label;      ///< Value of the `reason` label in metrics.
};

/// Total: every enumerator has its row.
[[nodiscard]] const ErrorInfo& error_info(ErrorCode code);

}  // namespace mlxs
