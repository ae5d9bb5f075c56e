#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mlxs {

/// Length in bytes of the longest prefix of `text` that ends on a UTF-8 character boundary: all of
/// `text` unless its last bytes begin a character that is not complete. Invalid bytes elsewhere
/// are not looked at.
[[nodiscard]] std::size_t utf8_complete_prefix(std::string_view text);

/// Whether `text` is valid UTF-8 (RFC 3629: no surrogates, no overlong forms, up to U+10FFFF).
[[nodiscard]] bool utf8_valid(std::string_view text);

}  // namespace mlxs
