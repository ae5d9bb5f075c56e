#include "engine/ops/cpu/attention_kernels.h"

#include "engine/ops/cpu/half.h"
#include "engine/ops/cpu/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<std::uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(round_to_half(value));
  return halves;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

template <class T>
std::vector<T*> lines_of(std::vector<std::remove_const_t<T>>& all, std::size_t width) {
  std::vector<T*> lines;
  for (std::size_t at = 0; at < all.size(); at += width) lines.push_back(all.data() + at);
  return lines;
}

class EveryAttention : public testing::TestWithParam<const ProductKernels*> {
 protected:
  void SetUp() override {
    if (!GetParam()->available()) GTEST_SKIP() << "not on this machine";
  }
  static const AttentionKernels& kernels() { return *GetParam()->attention; }
};

INSTANTIATE_TEST_SUITE_P(Sets,
                         EveryAttention,
                         testing::ValuesIn(all_product_kernels().begin(),
                                           all_product_kernels().end()),
                         [](const auto& set) { return std::string(set.param->name); });

constexpr int kWidths[] = {16, 48, 64, 80, 128, 256};

TEST_P(EveryAttention, ScoresHaveThePlainOnesBitsWhoeverTheyAreComputedWith) {
  constexpr std::int64_t kStride = kKeyBlock + 5;
  for (const int width : kWidths) {
    const auto size = static_cast<std::size_t>(width);
    std::vector<float> queries = normal_floats(9 * size, 1);
    queries[3] = kInfinity;
    queries[2 * size] = std::numeric_limits<float>::quiet_NaN();
    queries[4 * size] = 1e30f;
    const auto keys = halves_of(normal_floats(size * kKeyBlock, 2));
    const auto lines = lines_of<const float>(queries, size);
    std::vector<float> expected(9 * kStride, -1.0f);
    kPlainAttention.score(lines.data(), 9, keys.data(), width, expected.data(), kStride);

    for (const int together : {1, 2, 3, 4, 5, 9}) {
      std::vector<float> found(9 * kStride, -1.0f);
      for (int i = 0; i < 9; i += together) {
        const int count = std::min(together, 9 - i);
        kernels().score(
            lines.data() + i, count, keys.data(), width, found.data() + i * kStride, kStride);
      }
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (std::isnan(expected[i])) {
          ASSERT_TRUE(std::isnan(found[i]));
        } else {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(found[i]),
                    std::bit_cast<std::uint32_t>(expected[i]));
        }
      }
    }
  }
}

TEST_P(EveryAttention, ScoresAreProducts) {
  const auto queries = normal_floats(64, 3);
  const auto keys = normal_floats(std::size_t{64} * kKeyBlock, 4);
  const float* const line = queries.data();
  std::vector<float> scores(kKeyBlock);
  kernels().score(&line, 1, halves_of(keys).data(), 64, scores.data(), kKeyBlock);
  for (std::size_t k = 0; k < kKeyBlock; ++k) {
    double exact = 0;
    for (std::size_t d = 0; d < 64; ++d) exact += double{queries[d]} * keys[d * kKeyBlock + k];
    EXPECT_NEAR(scores[k], exact, 64 * 0x1p-11);
  }
}

TEST_P(EveryAttention, ValuesAddUpToThePlainOnesBits) {
  constexpr std::int64_t kStride = 40;
  const auto weights = normal_floats(9 * kStride, 5);
  for (const int width : kWidths) {
    const auto size = static_cast<std::size_t>(width);
    const auto values = halves_of(normal_floats(size * kKeyBlock, 6));
    for (const int count : {1, 7, kKeyBlock}) {
      std::vector<float> expected = normal_floats(9 * size, 7);
      std::vector<float> found = expected;
      const auto to = lines_of<float>(expected, size);
      kPlainAttention.add_weighted(
          weights.data(), kStride, 9, values.data(), count, width, to.data());

      const auto lines = lines_of<float>(found, size);
      for (int i = 0; i < 9; i += i == 0 ? 2 : 7) {
        kernels().add_weighted(weights.data() + i * kStride,
                               kStride,
                               i == 0 ? 2 : 7,
                               values.data(),
                               count,
                               width,
                               lines.data() + i);
      }

      EXPECT_EQ(bits_of(found), bits_of(expected)) << width << ", " << count;
    }
  }
}

TEST_P(EveryAttention, HalvesAreTheNearestOnes) {
  std::vector<float> values;
  for (unsigned half = 0; half < 0x7bffu; ++half) {
    const float low = half_to_float(static_cast<std::uint16_t>(half));
    const float high = half_to_float(static_cast<std::uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;
    for (const float value :
         {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, high)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  while (values.size() % 16 != 0) values.push_back(0);
  std::vector<std::uint16_t> halves(values.size());
  kernels().to_half(values.data(), static_cast<int>(values.size()), halves.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float value = std::abs(values[i]);
    const auto half = static_cast<std::uint16_t>(halves[i] & 0x7fffu);
    EXPECT_EQ(halves[i] >> 15, std::signbit(values[i]) ? 1 : 0);
    const float error = std::abs(half_to_float(half) - value);
    const auto other =
        static_cast<std::uint16_t>(half_to_float(half) > value ? half - 1 : half + 1);
    const float other_error = std::abs(half_to_float(other) - value);
    ASSERT_TRUE(error < other_error || (error == other_error && half % 2 == 0)) << value;
  }
}

TEST_P(EveryAttention, HalvesEndAtTheLargestAndKeepWhatIsNoNumber) {
  std::vector<float> values(16);
  values[0] = 65520;
  values[1] = -1e30f;
  values[2] = kInfinity;
  values[3] = std::numeric_limits<float>::quiet_NaN();
  values[4] = 1e-30f;
  std::vector<std::uint16_t> halves(16);
  kernels().to_half(values.data(), 16, halves.data());
  EXPECT_EQ(halves[0], 0x7bff);
  EXPECT_EQ(halves[1], 0xfbff);
  EXPECT_EQ(halves[2], 0x7bff);
  EXPECT_TRUE(std::isnan(half_to_float(halves[3])));
  EXPECT_EQ(halves[4], 0);
}

}  // namespace
}  // namespace mlxs::engine
