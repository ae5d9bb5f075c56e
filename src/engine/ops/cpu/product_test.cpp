#include "engine/ops/cpu/half.h"
#include "engine/ops/cpu/kernel_sets.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/packed_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Affine {
  int rows, columns, bits, group_size;
  std::vector<std::uint32_t> data;
  std::vector<float> scales, biases;

  [[nodiscard]] AffineMatrix view() const {
    return {rows, columns, bits, group_size, data.data(), scales.data(), biases.data()};
  }
  [[nodiscard]] double at(int row, int column) const {
    // Numbers may lie across two words.
    unsigned q = 0;
    for (int i = 0; i < bits; ++i) {
      const int at = (row * columns + column) * bits + i;
      q |= (data[static_cast<std::size_t>(at / 32)] >> at % 32 & 1u) << i;
    }
    const auto group = static_cast<std::size_t>(row * (columns / group_size) + column / group_size);
    return double{scales[group]} * q + biases[group];
  }
};

/// Scales are whole multiples of 2^-13, which half precision holds, plus `odd`, which it does not.
Affine random_affine(int rows, int columns, int bits, int group_size, float odd = 0) {
  std::mt19937 random(static_cast<unsigned>(rows * 31 + columns + bits));
  Affine matrix{rows, columns, bits, group_size, {}, {}, {}};
  matrix.data.resize(static_cast<std::size_t>(rows * columns * bits / 32));
  for (auto& word : matrix.data) word = static_cast<std::uint32_t>(random());
  for (int i = 0; i < rows * (columns / group_size); ++i) {
    matrix.scales.push_back(static_cast<float>(random() % 1000) * 0x1p-13f + odd);
    matrix.biases.push_back(-static_cast<float>(random() % 1000) * 0x1p-11f - odd);
  }
  return matrix;
}

std::vector<float> random_tokens(int tokens, int columns) {
  std::mt19937 random(static_cast<unsigned>(tokens + columns));
  std::normal_distribution<float> normal;
  std::vector<float> x;
  for (int i = 0; i < tokens * columns; ++i) {
    x.push_back(normal(random) * (i % 97 == 0 ? 100.0f : 1.0f));  // Loud channels, as models have.
  }
  return x;
}

/// The whole product by one set of kernels, in pieces of `step` panels.
std::vector<float> product(const ProductKernels& kernels,
                           const PackedMatrix& weight,
                           const float* x,
                           int tokens,
                           int step = 1000) {
  const int columns = weight.columns();
  const auto count = static_cast<std::size_t>(tokens);
  const auto blocks = static_cast<std::size_t>(weight.view().blocks());
  std::vector<std::uint8_t> codes(count * static_cast<std::size_t>(columns) * 2);
  std::vector<float> sums(count * blocks);
  std::vector<float> scales(count);
  std::vector<float> block_scales(sums.size());
  const Codes in{codes.data(),
                 sums.data(),
                 scales.data(),
                 weight.view().eight_bits ? block_scales.data() : nullptr};
  for (int t = 0; t < tokens; ++t) kernels.encode(x + t * columns, columns, t, tokens, in);
  std::vector<float> out(count * static_cast<std::size_t>(weight.rows()), -1.0f);
  for (int panel = 0; panel < weight.panels(); panel += step) {
    kernels.multiply(weight.view(),
                     weight.rows(),
                     panel,
                     std::min(panel + step, weight.panels()),
                     in,
                     tokens,
                     out.data(),
                     weight.rows());
  }
  return out;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

class EveryKernelSet : public testing::TestWithParam<const ProductKernels*> {
 protected:
  void SetUp() override {
    if (!GetParam()->available()) GTEST_SKIP() << "this machine has no " << GetParam()->name;
  }
  static const ProductKernels& plain() { return *all_product_kernels().front(); }
};
INSTANTIATE_TEST_SUITE_P(Cpu,
                         EveryKernelSet,
                         testing::ValuesIn(all_product_kernels().begin(),
                                           all_product_kernels().end()),
                         [](const auto& set) { return std::string(set.param->name); });

struct Shape {
  int tokens, rows, columns, bits, group_size;
  float odd;
};
constexpr Shape kShapes[] = {
    {1, 1, 32, 4, 32, 0},
    {1, 16, 64, 8, 64, 0},
    {2, 17, 96, 4, 32, 1e-5f},
    {3, 33, 128, 8, 128, 1e-5f},
    {7, 40, 576, 4, 64, 0},
    {8, 47, 160, 8, 32, 0},
    {9, 8, 1536, 4, 32, 0},
    {21, 100, 256, 4, 128, 1e-5f},
    {3, 20, 64, 1, 32, 0},
    {3, 20, 128, 2, 64, 0},
    {9, 20, 96, 3, 32, 1e-5f},
    {8, 33, 128, 5, 32, 0},
    {1, 16, 128, 6, 128, 0},
};

TEST_P(EveryKernelSet, IsWithinTheCodesRoundingOfTheExactProduct) {
  for (const Shape& shape : kShapes) {
    const Affine matrix =
        random_affine(shape.rows, shape.columns, shape.bits, shape.group_size, shape.odd);
    const std::vector<float> x = random_tokens(shape.tokens, shape.columns);
    const PackedMatrix weight(matrix.view());
    const std::vector<float> out = product(*GetParam(), weight, x.data(), shape.tokens);
    const std::vector<float> rough =
        product(*GetParam(), weight.with_eight_bits(), x.data(), shape.tokens);

    for (int t = 0; t < shape.tokens; ++t) {
      double most = 0;
      for (int i = 0; i < shape.columns; ++i) {
        most = std::max(most, double{std::abs(x[static_cast<std::size_t>(t * shape.columns + i)])});
      }
      for (int row = 0; row < shape.rows; ++row) {
        double exact = 0;
        double magnitude = 0;
        for (int i = 0; i < shape.columns; ++i) {
          const double w = matrix.at(row, i);
          exact += w * x[static_cast<std::size_t>(t * shape.columns + i)];
          magnitude += std::abs(w);
        }
        // Half a code for each column, and float32's own rounding.
        const double bound = magnitude * most * (0.5 / kCodeMax + 1e-5);
        const double rough_bound = magnitude * most * (0.5 / kShortCodeMax + 1e-5);
        const auto at = static_cast<std::size_t>(t * shape.rows + row);
        EXPECT_NEAR(out[at], exact, bound)
            << shape.rows << "x" << shape.columns << " at " << shape.bits;
        EXPECT_NEAR(rough[at], exact, rough_bound)
            << shape.rows << "x" << shape.columns << " at " << shape.bits;
      }
    }
  }
}

TEST_P(EveryKernelSet, GivesThePlainKernelsBits) {
  for (const Shape& shape : kShapes) {
    const PackedMatrix weight(
        random_affine(shape.rows, shape.columns, shape.bits, shape.group_size, shape.odd).view());
    const std::vector<float> x = random_tokens(shape.tokens, shape.columns);

    EXPECT_EQ(bits_of(product(*GetParam(), weight, x.data(), shape.tokens)),
              bits_of(product(plain(), weight, x.data(), shape.tokens)))
        << shape.rows << "x" << shape.columns << " at " << shape.bits;
    const PackedMatrix rough = weight.with_eight_bits();
    EXPECT_EQ(bits_of(product(*GetParam(), rough, x.data(), shape.tokens)),
              bits_of(product(plain(), rough, x.data(), shape.tokens)))
        << shape.rows << "x" << shape.columns << " at " << shape.bits;
  }
}

// R-ENG-2
TEST_P(EveryKernelSet, ATokensBitsDependOnNothingButItselfAndTheWeight) {
  const PackedMatrix fine(random_affine(75, 192, 4, 32).view());
  constexpr int kTokens = 19;
  const std::vector<float> x = random_tokens(kTokens, 192);
  for (const PackedMatrix& weight : {fine, fine.with_eight_bits()}) {
    const std::vector<float> whole = product(*GetParam(), weight, x.data(), kTokens);
    for (int t = 0; t < kTokens; ++t) {
      const auto at = whole.begin() + std::ptrdiff_t{t} * 75;
      EXPECT_EQ(bits_of(product(*GetParam(), weight, x.data() + t * 192, 1)),
                bits_of({at, at + 75}));
    }
    for (const int step : {1, 2, 3}) {
      EXPECT_EQ(bits_of(product(*GetParam(), weight, x.data(), kTokens, step)), bits_of(whole));
    }
  }
}

TEST_P(EveryKernelSet, TheLargestCodesDoNotOverflow) {
  for (const int bits : {4, 8}) {
    Affine matrix{16, 64, bits, 64, {}, {}, {}};
    matrix.data.assign(static_cast<std::size_t>(16 * 64 * bits / 32), 0xffffffffu);
    matrix.scales.assign(16, 1.0f);
    matrix.biases.assign(16, 0.0f);
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> x(64, sign * 2.0f);
      const auto out = product(*GetParam(), PackedMatrix(matrix.view()), x.data(), 1);
      const double exact = sign * 64 * 2.0 * ((1 << bits) - 1);
      for (const float value : out) EXPECT_NEAR(value, exact, 1e-4 * std::abs(exact));
    }
  }
}

TEST_P(EveryKernelSet, ZeroHugeTinyAndNonFiniteTokensStayApart) {
  const Affine matrix = random_affine(20, 64, 4, 32);
  const PackedMatrix fine(matrix.view());
  constexpr int kTokens = 6;
  std::vector<float> x = random_tokens(kTokens, 64);
  const auto token = [&](int t) { return x.begin() + std::ptrdiff_t{t} * 64; };
  std::fill_n(token(0), 64, 0.0f);
  for (int i = 0; i < 64; ++i) token(1)[i] *= 1e30f;
  for (int i = 0; i < 64; ++i) token(2)[i] *= 1e-35f;
  token(3)[5] = kInfinity;
  token(4)[63] = std::numeric_limits<float>::quiet_NaN();

  for (const PackedMatrix& weight : {fine, fine.with_eight_bits()}) {
    const std::vector<float> out = product(*GetParam(), weight, x.data(), kTokens);

    for (int row = 0; row < 20; ++row) {
      const auto result = [&](int t) { return out[static_cast<std::size_t>(t * 20 + row)]; };
      EXPECT_EQ(result(0), 0.0f);
      EXPECT_TRUE(std::isfinite(result(1)));
      EXPECT_GT(std::abs(result(1)), 1e20f);
      EXPECT_EQ(result(2), 0.0f);
      EXPECT_TRUE(std::isnan(result(3)));
      EXPECT_TRUE(std::isnan(result(4)));
      EXPECT_TRUE(std::isfinite(result(5)));
    }
  }
}

/// Normal numbers that `form` holds exactly.
std::vector<float> numbers_of(PanelForm form, int count) {
  std::vector<float> numbers = random_tokens(1, count);
  for (float& number : numbers) {
    const auto bits = std::bit_cast<std::uint32_t>(number);
    if (form == PanelForm::kBfloat16) number = std::bit_cast<float>(bits & 0xffff0000u);
    if (form == PanelForm::kHalf) number = half_to_float(float_to_half(number));
  }
  return numbers;
}

std::vector<float> dense_product(const ProductKernels& kernels,
                                 const PackedMatrix& weight,
                                 const float* x,
                                 int tokens,
                                 int step = 1000) {
  std::vector<float> out(static_cast<std::size_t>(tokens * weight.rows()), -1.0f);
  for (int panel = 0; panel < weight.panels(); panel += step) {
    kernels.multiply_dense(weight.view(),
                           weight.rows(),
                           panel,
                           std::min(panel + step, weight.panels()),
                           x,
                           weight.columns(),
                           tokens,
                           out.data(),
                           weight.rows());
  }
  return out;
}

// R-ENG-2
TEST_P(EveryKernelSet, DenseGivesThePlainKernelsBitsForAnyTokensAndPieces) {
  for (const auto form : {PanelForm::kBfloat16, PanelForm::kHalf, PanelForm::kFloat32}) {
    for (const auto& [rows, columns] : {std::pair{1, 1}, {17, 33}, {75, 100}, {131, 7}}) {
      const std::vector<float> numbers = numbers_of(form, rows * columns);
      const PackedMatrix weight(DenseMatrix{rows, columns, numbers.data()});
      constexpr int kTokens = 13;
      const std::vector<float> x = random_tokens(kTokens, columns);
      const std::vector<float> expected = dense_product(plain(), weight, x.data(), kTokens);
      for (const int step : {1, 5, 1000}) {
        EXPECT_EQ(bits_of(dense_product(*GetParam(), weight, x.data(), kTokens, step)),
                  bits_of(expected));
      }
      for (int t = 0; t < kTokens; ++t) {
        const auto at = expected.begin() + std::ptrdiff_t{t} * rows;
        EXPECT_EQ(bits_of(dense_product(*GetParam(), weight, x.data() + t * columns, 1)),
                  bits_of({at, at + rows}));
      }
      double sum = 0;
      for (int i = 0; i < columns; ++i) {
        sum += double{numbers[static_cast<std::size_t>(i)]} * x[static_cast<std::size_t>(i)];
      }
      EXPECT_NEAR(expected.front(), sum, 1e-4 * (1 + std::abs(sum)) * columns);
    }
  }
}

TEST(PackedMatrix, StoresNumbersInTheNarrowestFormThatIsExact) {
  for (const auto form : {PanelForm::kBfloat16, PanelForm::kHalf, PanelForm::kFloat32}) {
    const std::vector<float> numbers = numbers_of(form, 20 * 50);
    const PackedMatrix weight(DenseMatrix{20, 50, numbers.data()});
    EXPECT_EQ(weight.view().form, form);
    std::vector<float> row(50);
    for (int i = 0; i < 20; ++i) {
      weight.unpack_row(i, row.data());
      const auto at = numbers.begin() + std::ptrdiff_t{i} * 50;
      EXPECT_EQ(row, std::vector<float>(at, at + 50));
    }
  }
}

TEST(PackedMatrix, RoundsRoughNumbersToHalvesUnlessTheyAreTooLarge) {
  std::vector<float> numbers = numbers_of(PanelForm::kFloat32, 20 * 50);
  const PackedMatrix weight(DenseMatrix{20, 50, numbers.data(), true});
  EXPECT_EQ(weight.view().form, PanelForm::kHalf);
  std::vector<float> row(50);
  for (int i = 0; i < 20; ++i) {
    weight.unpack_row(i, row.data());
    for (int k = 0; k < 50; ++k) {
      const float number = numbers[static_cast<std::size_t>(i * 50 + k)];
      ASSERT_NEAR(row[static_cast<std::size_t>(k)], number, std::abs(number) * 0x1p-11f + 0x1p-25f);
    }
  }
  numbers[7] = 70000.5f;
  EXPECT_EQ(PackedMatrix(DenseMatrix{20, 50, numbers.data(), true}).view().form,
            PanelForm::kFloat32);
}

TEST(PackedMatrix, UnpacksTheRowsItWasMadeOf) {
  for (const Shape& shape : kShapes) {
    const Affine matrix =
        random_affine(shape.rows, shape.columns, shape.bits, shape.group_size, shape.odd);
    const PackedMatrix weight(matrix.view());
    EXPECT_EQ(weight.view().half_scales, shape.odd == 0);
    std::vector<float> row(static_cast<std::size_t>(shape.columns));
    for (int i = 0; i < shape.rows; ++i) {
      weight.unpack_row(i, row.data());
      for (int k = 0; k < shape.columns; ++k) {
        ASSERT_NEAR(row[static_cast<std::size_t>(k)], matrix.at(i, k), 1e-5);
      }
    }
  }
}

TEST(ProductKernels, ANamedSetIsTakenWhereTheMachineHasIt) {
  const ProductKernels* best = nullptr;
  for (const ProductKernels* kernels : all_product_kernels()) {
    if (!kernels->available()) continue;
    best = kernels;
    EXPECT_EQ(&choose_product_kernels(kernels->name), kernels);
  }
  EXPECT_EQ(&choose_product_kernels(nullptr), best);
  EXPECT_EQ(&choose_product_kernels("another"), best);
}

TEST(PackedMatrix, TakesWholeBlocksOfEveryWidthThatCheckpointsHave) {
  for (const int bits : {1, 2, 3, 4, 5, 6, 8}) {
    EXPECT_TRUE(PackedMatrix::can_pack(576, bits, 32)) << bits;
    EXPECT_TRUE(PackedMatrix::can_pack(576, bits, 64)) << bits;
  }
  EXPECT_FALSE(PackedMatrix::can_pack(576, 7, 64));
  EXPECT_FALSE(PackedMatrix::can_pack(576, 4, 16));
  EXPECT_FALSE(PackedMatrix::can_pack(576, 4, 128));
}

TEST(Half, EveryNumberSurvivesTheWayThroughAFloat) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(float_to_half(value), half);
  }
  for (unsigned bits = 0; bits < 0x7bff; ++bits) {
    const float below = half_to_float(static_cast<std::uint16_t>(bits));
    const float above = half_to_float(static_cast<std::uint16_t>(bits + 1));
    const float middle = below + (above - below) / 2;
    ASSERT_EQ(round_to_half(below), bits);
    ASSERT_EQ(round_to_half(middle), bits + bits % 2) << "to the even one";
    ASSERT_EQ(round_to_half(std::nextafter(middle, 1e9f)), bits + 1);
    ASSERT_EQ(round_to_half(-std::nextafter(middle, 0.0f)), bits | 0x8000u);
  }
  EXPECT_EQ(half_to_float(0x3c00), 1.0f);
  EXPECT_EQ(half_to_float(0xc000), -2.0f);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(half_to_float(0x7c00), kInfinity);
  EXPECT_TRUE(std::isnan(half_to_float(0x7e00)));
}

}  // namespace
}  // namespace mlxs::engine
