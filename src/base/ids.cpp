#include "base/ids.h"

#include <random>

namespace mlxs {

std::uint64_t random_u64() {
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device()};
    return std::mt19937_64{seed};
  }();
  return generator();
}

std::string random_id(std::string_view prefix) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string id{prefix};
  std::uint64_t bits = 0;
  for (int k = 0; k < 24; ++k) {
    if (k % 16 == 0) bits = random_u64();
    id.push_back(kDigits[bits & 15]);
    bits >>= 4;
  }
  return id;
}

}  // namespace mlxs
