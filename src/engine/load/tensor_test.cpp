#include "engine/load/tensor.h"

#include "engine/load/repack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace mlxs::engine {
namespace {

std::vector<std::byte> halves(const std::vector<std::uint16_t>& values) {
  std::vector<std::byte> bytes(values.size() * 2);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

TEST(Tensor, WidensHalfPrecisionExactly) {
  const auto bytes = halves({0x3c00, 0xc000, 0x0001, 0x8000, 0x7bff, 0x7c00, 0x3555});
  std::vector<float> out(7);
  widen(TensorType::kF16, bytes, 7, out.data());

  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
  EXPECT_EQ(out[2], 0x1p-24f);
  EXPECT_TRUE(out[3] == 0.0f && std::signbit(out[3]));
  EXPECT_EQ(out[4], 65504.0f);
  EXPECT_EQ(out[5], std::numeric_limits<float>::infinity());
  EXPECT_EQ(out[6], 0.333251953125f);
}

TEST(Tensor, WidensBrainFloatsExactly) {
  const auto bytes = halves({0x3f80, 0xc049});
  std::vector<float> out(2);
  widen(TensorType::kBF16, bytes, 2, out.data());

  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -3.140625f);
}

/// One block with q = 0, 1, 2, ... and d = 0.5 (m = 3 for Q4_1).
std::vector<std::byte> block_of(TensorType type) {
  std::vector<std::byte> block = halves({0x3800});
  if (type == TensorType::kQ4_1) block.insert(block.end(), {std::byte{0x00}, std::byte{0x42}});
  if (type == TensorType::kQ8_0) {
    for (int i = 0; i < 32; ++i) block.push_back(std::byte(i - 16));
  } else {
    for (int i = 0; i < 16; ++i) block.push_back(std::byte(i | (15 - i) << 4));
  }
  return block;
}

TEST(Tensor, WidensBlocksAsTheFormatSays) {
  std::vector<float> out(32);
  widen(TensorType::kQ4_0, block_of(TensorType::kQ4_0), 32, out.data());
  EXPECT_EQ(out[3], 0.5f * (3 - 8));
  EXPECT_EQ(out[16], 0.5f * (15 - 8));
  widen(TensorType::kQ4_1, block_of(TensorType::kQ4_1), 32, out.data());
  EXPECT_EQ(out[3], 0.5f * 3 + 3);
  EXPECT_EQ(out[31], 3.0f);
  widen(TensorType::kQ8_0, block_of(TensorType::kQ8_0), 32, out.data());
  EXPECT_EQ(out[0], 0.5f * -16);
  EXPECT_EQ(out[31], 0.5f * 15);
}

TEST(Tensor, AffineFormHasTheSameValues) {
  for (const auto type : {TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ8_0}) {
    const auto bytes = block_of(type);
    const TensorView view{.name = "x", .type = type, .shape = {1, 32}, .bytes = bytes, .file = ""};
    std::vector<float> wide(32);
    widen_rows(view, wide.data());
    const int bits = affine_bits(type);
    std::vector<std::uint32_t> packed(static_cast<std::size_t>(bits));
    float scale = 0;
    float bias = 0;

    to_affine(view, packed.data(), &scale, &bias);

    for (int i = 0; i < 32; ++i) {
      const int per_word = 32 / bits;
      const auto q = packed[static_cast<std::size_t>(i / per_word)] >> (i % per_word * bits) &
                     ((1u << bits) - 1);
      EXPECT_EQ(static_cast<float>(q) * scale + bias, wide[static_cast<std::size_t>(i)]) << i;
    }
  }
}

TEST(Tensor, PutsInterleavedHeadsBackIntoOrder) {
  // Two heads of four rows; the file has (i, half), we want (half, i).
  const std::vector<float> rows{0, 2, 1, 3, 4, 6, 5, 7};
  const TensorView view{.name = "q",
                        .type = TensorType::kF32,
                        .shape = {8, 1},
                        .bytes = std::as_bytes(std::span(rows)),
                        .file = "",
                        .interleaved_heads = 2};
  std::vector<float> out(8);

  widen_rows(view, out.data());
  EXPECT_EQ(out, (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  copy_rows(view, reinterpret_cast<std::byte*>(out.data()));
  EXPECT_EQ(out, (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Tensor, ThreadsWidenAllRows) {
  constexpr std::int64_t kRows = 1003;
  constexpr std::int64_t kColumns = 512;
  std::vector<float> values(kRows * kColumns);
  std::mt19937 random(3);
  for (float& value : values) value = static_cast<float>(random());
  const TensorView view{.name = "x",
                        .type = TensorType::kF32,
                        .shape = {kRows, kColumns},
                        .bytes = std::as_bytes(std::span(values)),
                        .file = ""};
  std::vector<float> out(values.size());

  widen_rows(view, out.data());

  EXPECT_EQ(out, values);
}

}  // namespace
}  // namespace mlxs::engine
