#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace mlxs::api {

/// Appends `text` (valid UTF-8) to `out` as a JSON string with its quotes. Used where an answer is
/// rendered token by token and a JSON tree would cost more than the escape.
void append_json_string(std::string& out, std::string_view text);

/// Appends the decimal digits of `value`.
void append_json_integer(std::string& out, std::int64_t value);

/// Appends `value` serialised without spaces, keys in their order.
void append_json_value(std::string& out, const boost::json::value& value);

}  // namespace mlxs::api
