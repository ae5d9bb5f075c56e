#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mlxs {

/// Fresh identifier such as "chatcmpl-3f9c…": `prefix` and 24 random hexadecimal characters.
/// Any thread; each has its own generator, seeded from the operating system.
[[nodiscard]] std::string random_id(std::string_view prefix);

/// 64 random bits from the calling thread's generator. Not for secrets.
[[nodiscard]] std::uint64_t random_u64();

}  // namespace mlxs
