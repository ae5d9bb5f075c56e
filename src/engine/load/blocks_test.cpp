// Blocks against gguf-py's dequantisation of them (tests/golden/gguf/make.py).

#include "engine/load/blocks.h"

#include "engine/load/mapped_file.h"
#include "engine/load/repack.h"
#include "engine/load/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr TensorType kBlockTypes[] = {TensorType::kQ4_0,
                                      TensorType::kQ4_1,
                                      TensorType::kQ5_0,
                                      TensorType::kQ5_1,
                                      TensorType::kQ8_0,
                                      TensorType::kQ2_K,
                                      TensorType::kQ3_K,
                                      TensorType::kQ4_K,
                                      TensorType::kQ5_K,
                                      TensorType::kQ6_K,
                                      TensorType::kIQ4_NL,
                                      TensorType::kIQ4_XS,
                                      TensorType::kMXFP4};

class Blocks : public ::testing::TestWithParam<TensorType> {
 protected:
  Blocks() {
    const auto path = std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/gguf";
    file_ = MappedFile::open(path / "blocks.safetensors").value();
    const std::string name(tensor_type_name(GetParam()));
    for (const TensorView& tensor : parse_safetensors(file_->bytes(), name).value().tensors) {
      if (tensor.name == name + ".bytes") blocks_ = tensor;
      if (tensor.name != name + ".values") continue;
      values_.resize(static_cast<std::size_t>(tensor.elements()));
      widen(tensor.type, tensor.bytes, tensor.elements(), values_.data());
    }
    blocks_.type = GetParam();
    blocks_.shape = {4, std::ssize(values_) / 4};
  }

  std::optional<MappedFile> file_;
  TensorView blocks_;
  std::vector<float> values_;
};

TEST_P(Blocks, WidenAsTheirAuthorsDo) {
  std::vector<float> out(values_.size());

  widen_rows(blocks_, out.data());

  EXPECT_EQ(out, values_);
}

/// What `to_affine` made, element by element.
std::vector<float> affine_values(const TensorView& tensor) {
  const auto bits = static_cast<std::size_t>(affine_bits(tensor.type));
  const auto elements = static_cast<std::size_t>(tensor.elements());
  std::vector<std::uint32_t> packed(elements * bits / 32);
  std::vector<float> scales(elements / kGroupElements);
  std::vector<float> biases(scales.size());
  to_affine(tensor, packed.data(), scales.data(), biases.data());
  std::vector<float> values;
  for (std::size_t i = 0; i < elements; ++i) {
    std::uint32_t q = 0;
    for (std::size_t bit = 0; bit < bits; ++bit) {
      const std::size_t at = i * bits + bit;
      q |= (packed[at / 32] >> (at % 32) & 1u) << bit;
    }
    const std::size_t group = i / kGroupElements;
    values.push_back(static_cast<float>(q) * scales[group] + biases[group]);
  }
  return values;
}

// The table in docs/models.md: what a type becomes where quantised weights are kept, and the
// root-mean-square error that adds, relative to the values.
TEST_P(Blocks, LossIsTheDocumentedOne) {
  std::string row;
  if (GetParam() == TensorType::kMXFP4) {
    std::vector<std::uint32_t> packed(values_.size() / 8);
    std::vector<std::uint8_t> scales(values_.size() / kGroupElements);
    to_mxfp4(blocks_, packed.data(), scales.data());
    constexpr float kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6};
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const std::uint32_t q = packed[i / 8] >> (i % 8 * 4) & 15u;
      const float scale = std::ldexp(1.0f, scales[i / kGroupElements] - 127);
      ASSERT_EQ(kValues[q] * scale, values_[i]) << i;
    }
    row = "| MXFP4 | mxfp4 | none |";
  } else {
    const std::vector<float> values = affine_values(blocks_);
    double error = 0;
    double total = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(values[i] - values_[i], 2);
      total += std::pow(values_[i], 2);
    }
    const double loss = std::sqrt(error / total);
    if (has_groups(GetParam())) {
      EXPECT_LT(loss, 1e-7);
    }
    row = fmt::format("| {} | affine, {} bits | {} |",
                      tensor_type_name(GetParam()),
                      affine_bits(GetParam()),
                      has_groups(GetParam()) ? "none" : fmt::format("{:.1f} %", loss * 100));
  }
  const auto page = std::filesystem::path(MLXS_SOURCE_DIR) / "docs/models.md";
  EXPECT_THAT(read_small_file(page, 1 << 20).value(), ::testing::HasSubstr(row));
}

// A damaged file may hold any bytes: numbers that are none must not become undefined behaviour.
TEST_P(Blocks, AnyBytesAreTaken) {
  std::mt19937 random(17);
  const auto size = static_cast<std::size_t>(row_bytes(GetParam(), 256));
  std::vector<std::byte> bytes(size);
  std::vector<float> out(256);
  std::vector<std::uint32_t> packed(256);
  std::vector<float> scales(8);
  std::vector<float> biases(8);
  std::vector<std::uint8_t> powers(8);
  for (int round = 0; round < 200; ++round) {
    for (std::byte& byte : bytes) byte = std::byte(random());
    if (round == 0) bytes.assign(size, std::byte{0xff});
    if (round == 1) bytes.assign(size, std::byte{0x00});
    const TensorView view{
        .name = "x", .type = GetParam(), .shape = {1, 256}, .bytes = bytes, .file = ""};
    widen_rows(view, out.data());
    if (GetParam() == TensorType::kMXFP4) {
      to_mxfp4(view, packed.data(), powers.data());
    } else {
      to_affine(view, packed.data(), scales.data(), biases.data());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Blocks, ::testing::ValuesIn(kBlockTypes), [](const auto& test) {
  return std::string(tensor_type_name(test.param));
});

}  // namespace
}  // namespace mlxs::engine
