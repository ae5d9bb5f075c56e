#pragma once

#include "base/error.h"
#include "http/message.h"

#include <boost/json/object.hpp>

#include <optional>
#include <string>

namespace mlxs::api {

/// {"error":{"message","type","param","code"}} as OpenAI has it; param and code null when empty.
[[nodiscard]] boost::json::object error_object(const Error& error);

/// A whole answer of the code's status, with content-type, `x-should-retry` on 4xx/5xx as the table
/// says, and `retry-after` (seconds) when given.
[[nodiscard]] http::Response error_response(const Error& error,
                                            std::optional<int> retry_after_s = std::nullopt);

/// Reads an upstream's error answer of any shape (OpenAI object, bare string, {"detail":…}, plain
/// text) of `status` into an Error; the status picks the code.
[[nodiscard]] Error read_error(int status, std::string_view body);

}  // namespace mlxs::api
