#include "engine/ops/expert_product.h"

#include "engine/ops/parallel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr int kColumns = 96;
constexpr int kRows = 48;
constexpr int kExperts = 5;

struct Stack {
  std::vector<std::uint32_t> data;
  std::vector<float> scales, biases, dense;
  int bits;  // 0: dense

  Stack(int bits_in, unsigned seed) : bits(bits_in) {
    std::mt19937 random(seed);
    const auto elements = std::size_t{kExperts} * kRows * kColumns;
    if (bits == 0) {
      dense.resize(elements);
      for (float& value : dense) value = static_cast<float>(random() % 2001) / 1000 - 1;
      return;
    }
    data.resize(elements * static_cast<std::size_t>(bits) / 32);
    for (auto& word : data) word = static_cast<std::uint32_t>(random());
    scales.resize(elements / 32);
    biases.resize(elements / 32);
    for (float& scale : scales) scale = static_cast<float>(random() % 1000 + 1) / 7000;
    for (float& bias : biases) bias = -static_cast<float>(random() % 1000) / 900;
  }

  /// Experts [first, first + count).
  PackedMatrix packed(int first, int count) const {
    const auto skip = [&](const auto& all, std::size_t each) {
      return all.data() + static_cast<std::size_t>(first) * each;
    };
    constexpr std::size_t kOne = std::size_t{kRows} * kColumns;
    if (bits == 0)
      return PackedMatrix(DenseMatrix{count * kRows, kColumns, skip(dense, kOne), false});
    return PackedMatrix(AffineMatrix{count * kRows,
                                     kColumns,
                                     bits,
                                     32,
                                     skip(data, kOne * static_cast<std::size_t>(bits) / 32),
                                     skip(scales, kOne / 32),
                                     skip(biases, kOne / 32)});
  }
};

std::vector<float> tokens_of(int count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> x(static_cast<std::size_t>(count) * kColumns);
  for (float& value : x) value = static_cast<float>(random() % 4001) / 1000 - 2;
  return x;
}

std::vector<float> row(const std::vector<float>& all, int index, int width) {
  const auto begin = all.begin() + std::ptrdiff_t{index} * width;
  return {begin, begin + width};
}

class ExpertProduct : public testing::TestWithParam<int> {};

// R-ENG-2
TEST_P(ExpertProduct, EveryRowGetsTheBitsOfItsExpertAlone) {
  const Stack stack{GetParam(), 3};
  const PackedMatrix all = stack.packed(0, kExperts);
  std::mt19937 random(9);
  for (const int count : {1, 2, 7, 8, 9, 64, 200}) {
    const auto x = tokens_of(count, static_cast<unsigned>(count));
    std::vector<std::int32_t> experts(static_cast<std::size_t>(count));
    for (auto& expert : experts) expert = static_cast<std::int32_t>(random() % kExperts);
    std::vector<float> out(static_cast<std::size_t>(count) * kRows, std::nanf(""));
    multiply_experts({x.data(), count, kColumns}, all, kRows, experts.data(), out.data());
    for (int i = 0; i < count; ++i) {
      std::vector<float> alone(kRows);
      multiply({x.data() + std::ptrdiff_t{i} * kColumns, 1, kColumns},
               stack.packed(experts[static_cast<std::size_t>(i)], 1),
               alone.data());
      ASSERT_EQ(row(out, i, kRows), alone) << count << " rows, row " << i;
    }
  }
}

TEST_P(ExpertProduct, EightBitsAreThoseOfOneExpertToo) {
  const Stack stack{GetParam(), 5};
  constexpr int kCount = 11;
  const auto x = tokens_of(kCount, 2);
  const std::vector<std::int32_t> experts(kCount, 2);
  std::vector<float> out(std::size_t{kCount} * kRows);
  std::vector<float> together(out.size());
  multiply_experts({x.data(), kCount, kColumns},
                   stack.packed(0, kExperts).with_eight_bits(),
                   kRows,
                   experts.data(),
                   out.data());
  multiply({x.data(), kCount, kColumns}, stack.packed(2, 1).with_eight_bits(), together.data());
  EXPECT_EQ(out, together);
}

TEST_P(ExpertProduct, AllRowsMayHaveOneExpert) {
  const Stack stack{GetParam(), 4};
  constexpr int kCount = 130;
  const auto x = tokens_of(kCount, 1);
  const std::vector<std::int32_t> experts(kCount, kExperts - 1);
  std::vector<float> out(std::size_t{kCount} * kRows);
  std::vector<float> together(out.size());
  multiply_experts(
      {x.data(), kCount, kColumns}, stack.packed(0, kExperts), kRows, experts.data(), out.data());
  multiply({x.data(), kCount, kColumns}, stack.packed(kExperts - 1, 1), together.data());
  EXPECT_EQ(out, together);
}

INSTANTIATE_TEST_SUITE_P(Forms, ExpertProduct, testing::Values(0, 3, 4, 5, 8), [](const auto& one) {
  return one.param == 0 ? std::string("Dense") : "Bits" + std::to_string(one.param);
});

}  // namespace
}  // namespace mlxs::engine
