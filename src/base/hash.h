#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs {

using Sha256 = std::array<std::uint8_t, 32>;

/// SHA-256 of `bytes` (FIPS 180-4).
[[nodiscard]] Sha256 sha256(std::string_view bytes);

/// Lower-case hexadecimal, 64 characters.
[[nodiscard]] std::string to_hex(const Sha256& digest);

/// What `to_hex` wrote, in either case; nothing for any other text.
[[nodiscard]] std::optional<Sha256> sha256_from_hex(std::string_view text);

/// Whether both are equal, in a time that does not depend on where they differ.
[[nodiscard]] bool equal_constant_time(const Sha256& a, const Sha256& b);

}  // namespace mlxs
