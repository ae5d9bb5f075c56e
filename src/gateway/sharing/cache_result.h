#pragma once

#include <cstdint>
#include <string_view>

namespace mlxs::gateway {

/// What sharing did for a request; the answer's `x-mlx-cache` header.
enum class CacheResult : std::uint8_t {
  kMiss,       ///< It started a flight that others may join, or whose answer is kept.
  kHit,        ///< Served by the prompt cache.
  kDedup,      ///< Served by an answer completed within dedup.ttl_ms.
  kCoalesced,  ///< Joined a flight under way.
  kStale,      ///< Served by the prompt cache past the entry's lifetime, within its grace.
  kBypass,     ///< A flight of its own: sharing is off for it, or a limit was reached.
};
[[nodiscard]] constexpr std::string_view to_string(CacheResult result) {
  switch (result) {
    case CacheResult::kMiss:
      return "miss";
    case CacheResult::kHit:
      return "hit";
    case CacheResult::kDedup:
      return "dedup";
    case CacheResult::kCoalesced:
      return "coalesced";
    case CacheResult::kStale:
      return "stale";
    case CacheResult::kBypass:
      return "bypass";
  }
  return {};
}

}  // namespace mlxs::gateway
