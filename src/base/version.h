#pragma once

#include <string_view>

namespace mlxs {

inline constexpr std::string_view kVersion = MLXS_VERSION;

}  // namespace mlxs
