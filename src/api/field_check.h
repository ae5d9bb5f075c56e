#pragma once

#include "api/schema.h"
#include "base/result.h"

#include <boost/json/value.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::api {

/// kInvalidRequest about `param`: "Invalid 'param': expected …, got …."
[[nodiscard]] Error invalid_value(std::string_view param,
                                  std::string_view expected,
                                  std::string_view got);

/// What came, in words: scalars with their value (strings cut short), containers by kind only.
[[nodiscard]] std::string describe(const boost::json::value& value);

/// The integer that `value` is: 3 and 3.0 are, 3.5 and 1e300 are not.
[[nodiscard]] std::optional<std::int64_t> as_integer(const boost::json::value& value);

/// 64 bits from an integer in [-2^63, 2^64); negative ones as two's complement.
[[nodiscard]] std::optional<std::uint64_t> as_seed(const boost::json::value& value);

/// Checks type, range and support of a value that is present and not null. The content of messages
/// is left to messages.h.
[[nodiscard]] Result<void> check_field(const Field& field, const boost::json::value& value);

}  // namespace mlxs::api
