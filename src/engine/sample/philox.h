#pragma once

#include <array>
#include <cstdint>

namespace mlxs::engine {

/// Philox4x32-10: four random words from a counter and a key, no state. The same on every machine.
/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox4x32(
    std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

/// What a random number is for; each purpose has its own.
enum class Purpose : std::uint32_t { kToken = 0, kXtc = 1 };

/// Uniform in [0, 1), a multiple of 2^-53: the random number for `purpose` of the token at
/// `position` of answer `choice` drawn with `seed`.
[[nodiscard]] constexpr double uniform_at(std::uint64_t seed,
                                          std::uint32_t choice,
                                          std::uint64_t position,
                                          Purpose purpose = Purpose::kToken) {
  const auto words =
      philox4x32({static_cast<std::uint32_t>(position),
                  static_cast<std::uint32_t>(position >> 32),
                  choice,
                  static_cast<std::uint32_t>(purpose)},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  const std::uint64_t bits = (std::uint64_t{words[1]} << 32) | words[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace mlxs::engine
