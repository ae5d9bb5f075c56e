#include "engine/load/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> file_of(std::string_view header, std::size_t data_size) {
  std::vector<std::byte> file(8 + header.size() + data_size);
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  std::memcpy(file.data() + 8, header.data(), header.size());
  return file;
}

constexpr std::string_view kSample = R"({"__metadata__":{"format":"pt"},)"
                                     R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                     R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
                                     R"("c":{"dtype":"U32","shape":[],"data_offsets":[32,36]}})";

Error error_of(std::string_view header, std::size_t data_size) {
  const auto result = parse_safetensors(file_of(header, data_size), "x.safetensors");
  EXPECT_FALSE(result) << header;
  return result ? Error{} : result.error();
}

TEST(Safetensors, ReadsTensorsWithoutCopyingThem) {
  const auto bytes = file_of(kSample, 36);
  const auto result = parse_safetensors(bytes, "x.safetensors");

  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(result->tensors.size(), 3u);
  EXPECT_EQ(result->tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(result->tensors[0].bytes.data(), bytes.data() + 8 + kSample.size());
  EXPECT_EQ(result->tensors[1].type, TensorType::kBF16);
  EXPECT_EQ(result->tensors[2].elements(), 1);
}

TEST(Safetensors, RefusesRangesThatDoNotFitDataOrShape) {
  const auto entry = [](std::string_view dtype, std::string_view shape, std::string_view range) {
    return std::string(R"({"a":{"dtype":")") + std::string(dtype) + R"(","shape":)" +
           std::string(shape) + R"(,"data_offsets":)" + std::string(range) + "}}";
  };
  for (const auto& header : {entry("F32", "[2]", "[0,12]"),
                             entry("F32", "[2]", "[4,12]"),
                             entry("F32", "[2]", "[8,0]"),
                             entry("F32", "[2]", "[0]"),
                             entry("F32", "[-2]", "[0,8]"),
                             entry("F32", "[2.5]", "[0,8]"),
                             entry("F32", "[281474976710656,281474976710656]", "[0,8]"),
                             entry("F32", "2", "[0,8]"),
                             entry("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"),
                             std::string(R"({"a":[]})"),
                             std::string(R"({"a":{"shape":[2],"data_offsets":[0,8]}})"),
                             std::string("[]"),
                             std::string("{")}) {
    EXPECT_EQ(error_of(header, 8).code, ErrorCode::kCorruptFile) << header;
  }
}

TEST(Safetensors, RefusesOverlaps) {
  const Error error = error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                               12);
  EXPECT_EQ(error.code, ErrorCode::kCorruptFile);
  EXPECT_THAT(error.message, HasSubstr("overlap"));
}

TEST(Safetensors, NamesAnUnsupportedDtype) {
  const Error error =
      error_of(R"({"layer.q":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", 8);
  EXPECT_EQ(error.code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(error.message, HasSubstr("layer.q"));
  EXPECT_THAT(error.message, HasSubstr("F8_E4M3"));
}

TEST(Safetensors, RefusesAHeaderLongerThanTheFile) {
  auto bytes = file_of(kSample, 36);
  bytes[4] = std::byte{1};
  EXPECT_EQ(parse_safetensors(bytes, "x").error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(parse_safetensors({}, "x").error().code, ErrorCode::kCorruptFile);
}

TEST(Safetensors, RefusesDeepNesting) {
  const std::string deep = R"({"a":)" + std::string(100, '[') + std::string(100, ']') + "}";
  EXPECT_EQ(error_of(deep, 0).code, ErrorCode::kCorruptFile);
}

TEST(Safetensors, SurvivesRandomDamage) {
  const auto bytes = file_of(kSample, 36);
  std::mt19937 random(2);
  for (int round = 0; round < 20'000; ++round) {
    auto damaged = bytes;
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < flips; ++i) {
      damaged[random() % damaged.size()] = std::byte(random() % 256);
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto result = parse_safetensors(damaged, "x");
    if (!result) {
      ASSERT_TRUE(result.error().code == ErrorCode::kCorruptFile ||
                  result.error().code == ErrorCode::kInvalidRequest);
      continue;
    }
    for (const TensorView& tensor : result->tensors) {
      if (!has_values(tensor.type)) continue;
      std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
      widen(tensor.type, tensor.bytes, tensor.elements(), values.data());
    }
  }
}

}  // namespace
}  // namespace mlxs::engine
