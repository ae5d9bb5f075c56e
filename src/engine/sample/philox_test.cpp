#include "engine/sample/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace mlxs::engine {
namespace {

using ::testing::ElementsAre;

// The known answers of Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_THAT(philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(
      philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(
      philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(UniformAt, DependsOnSeedChoicePositionAndPurpose) {
  std::set<double> seen;
  for (const std::uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (const std::uint32_t choice : {0u, 1u})
      for (const std::uint64_t position : {0ull, 1ull, 1ull << 32})
        for (const Purpose purpose : {Purpose::kToken, Purpose::kXtc})
          seen.insert(uniform_at(seed, choice, position, purpose));

  EXPECT_EQ(seen.size(), 36u);
}

TEST(UniformAt, IsUniform) {
  constexpr int kDraws = 100'000;
  constexpr int kBins = 100;
  std::array<int, kBins> counts{};
  for (int position = 0; position < kDraws; ++position) {
    const double u = uniform_at(42, 0, static_cast<std::uint64_t>(position));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<std::size_t>(u * kBins)];
  }

  double chi_square = 0;
  for (const int count : counts) chi_square += std::pow(count - kDraws / kBins, 2) * kBins / kDraws;
  EXPECT_LT(chi_square, 148.2);  // 99 degrees of freedom, 0.1 %
  EXPECT_GT(chi_square, 60.0);   // too even would be as suspicious, 0.05 %
}

}  // namespace
}  // namespace mlxs::engine
