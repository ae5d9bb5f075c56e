// Each operation's CPU form against MLX's own operations, on shapes that leave edges.

#include "engine/ops/dense_product.h"
#include "engine/ops/gated.h"
#include "engine/ops/heads.h"
#include "engine/ops/linear.h"
#include "engine/ops/norm.h"
#include "engine/ops/parallel.h"
#include "engine/ops/rope.h"

#include <gtest/gtest.h>
#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numbers>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

float distance(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  return mx::max(mx::abs(mx::subtract(a, b))).item<float>();
}

mx::array normal(mx::Shape shape) { return mx::random::normal(std::move(shape)); }

Weight packed_weight(int rows, int columns) {
  const std::vector<mx::array> parts = mx::quantize(normal({rows, columns}), 32, 4);
  mx::array data = parts[0];
  mx::array scales = parts[1];
  mx::array biases = parts[2];
  mx::eval(data, scales, biases);
  Weight weight{mx::zeros({0})};
  weight.packed = std::make_shared<const PackedMatrix>(AffineMatrix{rows,
                                                                    columns,
                                                                    4,
                                                                    32,
                                                                    data.data<std::uint32_t>(),
                                                                    scales.data<float>(),
                                                                    biases.data<float>()});
  return weight;
}

TEST(Linear, PackedEqualsMatmulWithTheRowsThatEmbeddingReads) {
  const Weight weight = packed_weight(300, 96);
  const mx::array wide = embedding(mx::arange(300), weight, mx::float32);
  for (const int tokens : {1, 2, 7, 64, 130}) {
    // Every other token, as slices of wider arrays have them.
    const mx::array x = mx::slice(normal({2 * tokens, 96}), {0, 0}, {2 * tokens, 96}, {2, 1});
    EXPECT_LT(distance(linear(x, weight), mx::matmul(x, mx::transpose(wide))), 5e-3f) << tokens;
  }
  EXPECT_THROW((void)linear(normal({2, 64}), weight), std::invalid_argument);
}

// R-ENG-2
TEST(Linear, PackedGivesTheSameBitsForAnyBatchAndNumberOfThreads) {
  const Weight weight = packed_weight(700, 576);
  const mx::array x = normal({50, 576});
  const mx::array all = linear(x, weight);
  mx::eval(all);
  for (const int threads : {1, 2, 5}) {
    set_compute_threads(threads);
    for (const auto& [first, last] : {std::pair{0, 1}, {3, 50}, {17, 26}, {49, 50}}) {
      const mx::array part = linear(mx::slice(x, {first, 0}, {last, 576}), weight);
      EXPECT_TRUE(mx::array_equal(part, mx::slice(all, {first, 0}, {last, 700})).item<bool>())
          << first << " to " << last << " by " << threads;
    }
  }
  set_compute_threads(0);
}

TEST(Linear, EqualsMatmulForAnyNumberOfRows) {
  const Weight weight{normal({300, 96})};
  const mx::array bias = normal({300});
  for (const int tokens : {1, 2, 7, 64, 130}) {
    const mx::array x = normal({tokens, 96});
    const mx::array expected = mx::add(mx::matmul(x, mx::transpose(weight.data)), bias);
    EXPECT_LT(distance(linear(x, weight, bias), expected), 5e-5f) << tokens;
  }
}

TEST(Linear, TakesNoRowsAtAll) {
  const mx::array y = linear(mx::zeros({0, 96}), {normal({300, 96})});
  mx::eval(y);
  EXPECT_EQ(y.shape(), (mx::Shape{0, 300}));
}

TEST(Linear, TakesRowsOfAWiderArray) {
  const Weight weight{normal({32, 16})};
  const mx::array wide = normal({5, 48});
  const mx::array x = mx::slice(wide, {0, 16}, {5, 32});
  EXPECT_LT(distance(linear(x, weight), mx::matmul(x, mx::transpose(weight.data))), 1e-5f);
}

TEST(Linear, RefusesColumnsThatDiffer) {
  EXPECT_THROW((void)linear(normal({2, 8}), {normal({4, 16})}), std::invalid_argument);
}

TEST(Linear, QuantisedEqualsItsDequantisedWeight) {
  const mx::array dense = normal({64, 128});
  for (const int bits : {4, 8}) {
    const auto parts = mx::quantize(dense, 32, bits);
    const Weight weight{parts[0], parts[1], parts[2], 32, bits};
    const mx::array wide = mx::dequantize(parts[0], parts[1], parts[2], 32, bits);
    const mx::array x = normal({3, 128});
    EXPECT_LT(distance(linear(x, weight), mx::matmul(x, mx::transpose(wide))), 1e-4f);
    const mx::array tokens({5, 0, 63}, mx::int32);
    EXPECT_LT(distance(embedding(tokens, weight, mx::float32), mx::take(wide, tokens, 0)), 1e-6f);
  }
}

TEST(Linear, TakesEveryFormMlxHas) {
  struct Form {
    const char* mode;
    int group_size, bits;
  };
  const mx::array dense = normal({40, 256});
  for (const Form& form : {Form{"affine", 32, 2},
                           {"affine", 64, 3},
                           {"affine", 128, 5},
                           {"affine", 64, 6},
                           {"mxfp4", 32, 4},
                           {"nvfp4", 16, 4},
                           {"mxfp8", 32, 8}}) {
    const auto parts = mx::quantize(dense, form.group_size, form.bits, form.mode);
    Weight weight{parts[0], parts[1], {}, form.group_size, form.bits, form.mode};
    if (parts.size() == 3) weight.biases = parts[2];
    const mx::array wide = mx::dequantize(parts[0],
                                          parts[1],
                                          weight.biases,
                                          form.group_size,
                                          form.bits,
                                          form.mode,
                                          std::nullopt,
                                          mx::float32);
    const mx::array x = normal({3, 256});
    EXPECT_LT(distance(linear(x, weight), mx::matmul(x, mx::transpose(wide))), 1e-4f) << form.mode;
    const mx::array tokens({5, 0, 39}, mx::int32);
    EXPECT_LT(distance(embedding(tokens, weight, mx::float32), mx::take(wide, tokens, 0)), 1e-6f);
    EXPECT_EQ(embedding(tokens, weight, mx::float16).dtype(), mx::float16);
  }
}

TEST(Linear, FormsThatDifferStandBesideEachOther) {
  const mx::array first = normal({32, 64});
  const mx::array second = normal({16, 64});
  const auto parts = mx::quantize(second, 32, 8);
  const std::vector<Weight> weights{{first}, {parts[0], parts[1], parts[2], 32, 8}};
  const mx::array wide =
      mx::concatenate({first, mx::dequantize(parts[0], parts[1], parts[2], 32, 8)}, 0);
  const mx::array x = normal({5, 64});

  EXPECT_LT(distance(linear(x, weights), mx::matmul(x, mx::transpose(wide))), 1e-4f);
}

TEST(ExpertLinear, EachRowMeetsItsOwnMatrix) {
  const mx::array matrices = normal({5, 48, 64});
  const auto parts = mx::quantize(matrices, 32, 8);
  const Weight quantised{parts[0], parts[1], parts[2], 32, 8};
  const mx::array wide = mx::dequantize(parts[0], parts[1], parts[2], 32, 8);
  for (const auto& numbers :
       {std::vector<int>{0, 0, 0, 2, 2, 4}, {3}, {4, 0, 4, 1}, std::vector<int>(70, 1)}) {
    const int count = static_cast<int>(numbers.size());
    const mx::array experts(numbers.begin(), {count}, mx::uint32);
    const mx::array x = normal({count, 64});
    const bool sorted = std::ranges::is_sorted(numbers);
    const auto expected = [&](const mx::array& weight) {
      const mx::array own = mx::swapaxes(mx::take(weight, experts, 0), -1, -2);
      return mx::squeeze(mx::matmul(mx::expand_dims(x, 1), own), 1);
    };
    EXPECT_LT(distance(expert_linear(x, {{matrices}}, experts, sorted), expected(matrices)), 5e-5f);
    EXPECT_LT(distance(expert_linear(x, {quantised}, experts, sorted), expected(wide)), 2e-4f);
  }
}

TEST(RmsNorm, EqualsMlx) {
  for (const int width : {1, 15, 16, 64, 577}) {
    const mx::array x = mx::multiply(normal({9, width}), mx::array(3.0f));
    const mx::array weight = normal({width});
    EXPECT_LT(distance(rms_norm(x, weight, 1e-5f), mx::fast::rms_norm(x, weight, 1e-5f)), 2e-5f);
  }
}

TEST(RmsNorm, TakesHeadsOfAFusedProduct) {
  const mx::array qkv = normal({4, 6, 32});
  const mx::array heads = mx::slice(qkv, {0, 2, 0}, {4, 5, 32});
  const mx::array weight = normal({32});
  EXPECT_LT(distance(rms_norm(heads, weight, 1e-6f), mx::fast::rms_norm(heads, weight, 1e-6f)),
            2e-5f);
}

mx::array activated(const mx::array& x, Activation activation) {
  if (activation == Activation::kSilu) return mx::multiply(x, mx::sigmoid(x));
  const mx::array inner =
      mx::multiply(mx::add(x, mx::multiply(mx::power(x, mx::array(3.0f)), mx::array(0.044715f))),
                   mx::array(std::sqrt(2 / std::numbers::pi_v<float>)));
  return mx::multiply(mx::multiply(x, mx::array(0.5f)), mx::add(mx::tanh(inner), mx::array(1.0f)));
}

TEST(Gated, EqualsItsDefinitionAtAllMagnitudes) {
  for (const auto activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const int half : {1, 16, 31, 200}) {
      const mx::array x = mx::multiply(normal({5, 2 * half}), mx::array(20.0f));
      const mx::array gate = mx::slice(x, {0, 0}, {5, half});
      const mx::array up = mx::slice(x, {0, half}, {5, 2 * half});
      const mx::array expected = mx::multiply(activated(gate, activation), up);
      const mx::array scale = mx::add(mx::abs(expected), mx::array(1.0f));
      // The reference itself has lost this much where 1 + tanh is nearly 0.
      EXPECT_LT(distance(mx::divide(gated(x, activation), scale), mx::divide(expected, scale)),
                1e-5f);
    }
    const mx::array extreme({-1e4f, 1e4f, 1.0f, 1.0f}, {1, 4});
    const mx::array out = gated(extreme, activation);
    mx::eval(out);
    EXPECT_NEAR(out.data<float>()[0], 0.0f, 1e-30f);
    EXPECT_EQ(out.data<float>()[1], 1e4f);
  }
}

TEST(Gated, HalfPrecisionEqualsFloat32) {
  for (const auto activation : {Activation::kSilu, Activation::kGeluTanh}) {
    const mx::array x = mx::astype(normal({3, 64}), mx::bfloat16);
    const mx::array wide = gated(mx::astype(x, mx::float32), activation);
    EXPECT_EQ(gated(x, activation).dtype(), mx::bfloat16);
    EXPECT_LT(distance(mx::astype(gated(x, activation), mx::float32), wide), 0.06f);
  }
}

TEST(Rope, EqualsMlxAtEachTokensPosition) {
  const mx::array positions({0, 5, 1000, 7, 40}, mx::int32);
  const Rope turn{rope_freqs(32, 10000), 0.5f};
  const mx::array qkv = normal({5, 6, 32});
  const mx::array x = mx::slice(qkv, {0, 0, 0}, {5, 4, 32});
  const mx::array expected =
      mx::squeeze(mx::fast::rope(mx::expand_dims(x, 2), 32, false, 10000.0f, 0.5f, positions), 2);

  // At position 1000 the angle itself is only known to 6e-5.
  EXPECT_LT(distance(rope(x, turn, positions), expected), 5e-4f);
}

TEST(SplitHeads, NormsAndTurnsQueriesAndKeysOnly) {
  const mx::array positions({0, 3, 70}, mx::int32);
  for (const bool neighbours : {false, true}) {
    const Rope turn{.freqs = rope_freqs(32, 10000), .neighbours = neighbours};
    const mx::array qkv = normal({3, 10, 32});
    const HeadNorms norms{normal({32}), normal({32}), 1e-6f};
    const auto part = [&](int first, int last, const mx::array& norm) {
      const mx::array heads = mx::slice(qkv, {0, first, 0}, {3, last, 32});
      return rope(mx::fast::rms_norm(heads, norm, 1e-6f), turn, positions);
    };
    const Heads heads = split_heads(qkv, 6, 2, norms, turn, positions);
    EXPECT_LT(distance(heads.queries, part(0, 6, norms.query)), 2e-5f);
    EXPECT_LT(distance(heads.keys, part(6, 8, norms.key)), 2e-5f);
    EXPECT_EQ(distance(heads.values, mx::slice(qkv, {0, 8, 0}, {3, 10, 32})), 0.0f);

    // Without norms, and in half precision with them.
    const Heads plain = split_heads(qkv, 6, 2, {}, turn, positions);
    EXPECT_LT(distance(plain.keys, rope(mx::slice(qkv, {0, 6, 0}, {3, 8, 32}), turn, positions)),
              1e-6f);
    const auto half = [](const mx::array& x) { return mx::astype(x, mx::float16); };
    const HeadNorms half_norms{half(norms.query), half(norms.key), 1e-6f};
    const Heads halves = split_heads(half(qkv), 6, 2, half_norms, turn, positions);
    EXPECT_EQ(halves.keys.dtype(), mx::float16);
    EXPECT_LT(distance(mx::astype(halves.queries, mx::float32), heads.queries), 0.05f);
  }
}

TEST(Rope, TurnsNeighboursWhereAsked) {
  const mx::array positions({0, 5, 41}, mx::int32);
  const Rope turn{.freqs = rope_freqs(32, 10000), .neighbours = true};
  const mx::array x = normal({3, 4, 32});
  const mx::array expected =
      mx::squeeze(mx::fast::rope(mx::expand_dims(x, 2), 32, true, 10000.0f, 1.0f, positions), 2);

  EXPECT_LT(distance(rope(x, turn, positions), expected), 2e-5f);
}

TEST(Rope, YarnKeepsShortWavesAndStretchesLongOnes) {
  const YarnScaling scaling{.factor = 4, .original_context = 32768};
  const mx::array ratio =
      mx::divide(yarn_rope_freqs(128, 1000000, scaling), rope_freqs(128, 1000000));
  mx::eval(ratio);

  EXPECT_EQ(ratio.data<float>()[0], 1.0f);
  EXPECT_NEAR(ratio.data<float>()[63], 4.0f, 1e-5f);
  EXPECT_NEAR(yarn_magnitude(scaling), 1.138629f, 1e-6f);
  EXPECT_EQ(yarn_magnitude({.factor = 1}), 1.0f);
}

TEST(Rope, Llama3StretchesLongWavesOnly) {
  const Llama3Scaling scaling{8, 1, 4, 8192};
  const mx::array plain = rope_freqs(128, 500000);
  const mx::array stretched = llama3_rope_freqs(128, 500000, scaling);
  const mx::array ratio = mx::divide(stretched, plain);
  mx::eval(ratio);

  EXPECT_EQ(ratio.data<float>()[0], 1.0f);
  EXPECT_NEAR(ratio.data<float>()[63], 8.0f, 1e-5f);
  for (int i = 1; i < 64; ++i) {
    EXPECT_GE(ratio.data<float>()[i], ratio.data<float>()[i - 1] - 1e-5f);
  }
}

}  // namespace
}  // namespace mlxs::engine
