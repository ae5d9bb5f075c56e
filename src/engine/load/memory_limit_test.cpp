#include "engine/load/memory_limit.h"

#include <gtest/gtest.h>

#include <unistd.h>

namespace mlxs::engine {
namespace {

TEST(MemoryLimit, IsWithinTheMachine) {
  const auto machine = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));

  EXPECT_GT(memory_limit_bytes(), 0u);
  EXPECT_LE(memory_limit_bytes(), machine);
}

}  // namespace
}  // namespace mlxs::engine
