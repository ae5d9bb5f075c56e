#pragma once

#include <cstdint>

namespace mlxs::worker {

/// Resident memory of this process in bytes; 0 where the system does not tell.
[[nodiscard]] std::uint64_t resident_bytes();

}  // namespace mlxs::worker
