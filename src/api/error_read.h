#pragma once

#include "base/error.h"

#include <boost/json/value.hpp>

#include <optional>
#include <string>

namespace mlxs::api {

/// What an upstream said of its failure, before it is matched with our table.
struct UpstreamError {
  std::string message;
  std::string param;
  std::string type;
  std::string wire_code;  ///< Empty when absent or no string.
};

/// Reads the value of a top-level "error" member: an OpenAI object, a bare string, or anything.
[[nodiscard]] UpstreamError read_error_value(const boost::json::value& error);

/// The row of our table that its code, else its type, names; nothing if neither does.
[[nodiscard]] std::optional<ErrorCode> code_named(const UpstreamError& error);

}  // namespace mlxs::api
