#pragma once

#include <cstdint>

namespace mlxs::engine {

/// Bytes this process may use: the tightest limit among its control group and the group's parents
/// (version 2 or 1), else the machine's memory. MLX itself looks at the whole machine only.
[[nodiscard]] std::uint64_t memory_limit_bytes();

}  // namespace mlxs::engine
