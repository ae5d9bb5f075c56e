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
