#pragma once

#include "http/message.h"

#include <string>

namespace mlxs::gateway {

/// The client's `x-request-id` if it is sane (1 to 128 characters of letters, digits and "-_.:"),
/// else a fresh one ("req_…"). It goes into answers, upstream requests and logs.
[[nodiscard]] std::string request_id(const http::Request& request);

}  // namespace mlxs::gateway
