#pragma once

#include <optional>
#include <string_view>

namespace mlxs::supervisor {

/// Processor cores that this process may use: affinity, and the quota of its cgroup (v2, or v1's
/// root as containers see it) rounded up. At least 1.
[[nodiscard]] int cores_available();

/// The quota in a cgroup v2 `cpu.max` ("150000 100000" is 2 cores); nothing if there is none.
[[nodiscard]] std::optional<int> cores_of_cpu_max(std::string_view text);

}  // namespace mlxs::supervisor
