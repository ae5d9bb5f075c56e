#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "http/message.h"

#include <optional>

namespace mlxs::gateway {

/// What a client told about its patience.
struct Patience {
  Deadline deadline;  ///< For the whole request.
  /// Streams: how long the client waits for the next byte.
  std::optional<Milliseconds> next_byte;
};

/// Reads `x-request-timeout-ms`, which bounds the request as a whole, and what the official SDKs
/// send: `x-stainless-read-timeout` (Python, seconds) and `x-stainless-timeout` (Node, seconds),
/// which for a whole answer are the total and for a stream the time to the next byte.
/// kInvalidRequest for an `x-request-timeout-ms` that is no positive number; SDK headers that don't
/// parse are ignored, since their senders never meant them for us.
[[nodiscard]] Result<Patience> read_patience(const http::Request& request, bool stream);

}  // namespace mlxs::gateway
