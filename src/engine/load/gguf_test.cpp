#include "engine/load/gguf.h"

#include "engine/testing/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

using ::mlxs::engine::testing::GgufWriter;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufWriter sample(std::uint32_t version = 3) {
  GgufWriter writer(version);
  writer.add_string("general.architecture", "llama");
  writer.add<std::uint8_t>("u8", 0, 200);
  writer.add<std::int8_t>("i8", 1, -3);
  writer.add<std::uint16_t>("u16", 2, 60000);
  writer.add<std::int16_t>("i16", 3, -300);
  writer.add_uint32("u32", 4'000'000'000u);
  writer.add<std::int32_t>("i32", 5, -70000);
  writer.add_float32("f32", 0.5f);
  writer.add_bool("yes", true);
  writer.add<std::uint64_t>("u64", 10, std::uint64_t{1} << 40);
  writer.add<std::int64_t>("i64", 11, -(std::int64_t{1} << 40));
  writer.add<double>("f64", 12, 0.25);
  writer.add_strings("words", {"a", "", "ccc"});
  writer.add_array<std::int32_t>("numbers", 5, {1, -2, 3});
  writer.add_array<float>("floats", 6, {0.5f, 1.5f});
  writer.add_floats("matrix", {2, 3}, {1, 2, 3, 4, 5, 6});
  const std::vector<std::byte> blocks(2 * 34, std::byte{1});
  writer.add_tensor("blocks", {2, 32}, 8, blocks);
  // Every block type by its number, with the bytes of 256 elements.
  const std::pair<std::uint32_t, std::size_t> kinds[] = {
      {2, 144},
      {3, 160},
      {6, 176},
      {7, 192},
      {10, 84},
      {11, 110},
      {12, 144},
      {13, 176},
      {14, 210},
      {20, 144},
      {23, 136},
      {39, 136},
  };
  for (const auto& [type, size] : kinds) {
    const std::vector<std::byte> bytes(size, std::byte{0x2d});
    writer.add_tensor("kind " + std::to_string(type), {1, 256}, type, bytes);
  }
  return writer;
}

TEST(Gguf, ReadsAllValueTypesOfBothVersions) {
  for (const std::uint32_t version : {2u, 3u}) {
    const auto bytes = sample(version).finish();
    const auto gguf = Gguf::parse(bytes, "x.gguf");
    ASSERT_TRUE(gguf) << gguf.error().message;

    EXPECT_EQ(gguf->string("general.architecture"), "llama");
    EXPECT_EQ(gguf->integer("u8"), 200);
    EXPECT_EQ(gguf->integer("i8"), -3);
    EXPECT_EQ(gguf->integer("u16"), 60000);
    EXPECT_EQ(gguf->integer("i16"), -300);
    EXPECT_EQ(gguf->integer("u32"), 4'000'000'000);
    EXPECT_EQ(gguf->integer("i32"), -70000);
    EXPECT_EQ(gguf->number("f32"), 0.5);
    EXPECT_EQ(gguf->boolean("yes"), true);
    EXPECT_EQ(gguf->integer("u64"), std::int64_t{1} << 40);
    EXPECT_EQ(gguf->integer("i64"), -(std::int64_t{1} << 40));
    EXPECT_EQ(gguf->number("f64"), 0.25);
    EXPECT_THAT(*gguf->strings("words"), ElementsAre("a", "", "ccc"));
    EXPECT_THAT(*gguf->integers("numbers"), ElementsAre(1, -2, 3));
    EXPECT_THAT(*gguf->floats("floats"), ElementsAre(0.5f, 1.5f));
  }
}

TEST(Gguf, AnswersNothingForAbsentKeysAndOtherTypes) {
  const auto bytes = sample().finish();
  const auto gguf = Gguf::parse(bytes, "x.gguf").value();

  EXPECT_EQ(gguf.integer("absent"), std::nullopt);
  EXPECT_EQ(gguf.integer("f32"), std::nullopt);
  EXPECT_EQ(gguf.string("u8"), std::nullopt);
  EXPECT_EQ(gguf.boolean("u8"), std::nullopt);
  EXPECT_FALSE(gguf.strings("numbers"));
  EXPECT_FALSE(gguf.integers("floats"));
}

TEST(Gguf, ListsTensorsOutermostAxisFirst) {
  const auto bytes = sample().finish();
  const auto gguf = Gguf::parse(bytes, "x.gguf").value();

  ASSERT_EQ(gguf.tensors().size(), 14u);
  const TensorView& matrix = gguf.tensors()[0];
  EXPECT_EQ(matrix.name, "matrix");
  EXPECT_THAT(matrix.shape, ElementsAre(2, 3));
  std::vector<float> values(6);
  widen(matrix.type, matrix.bytes, 6, values.data());
  EXPECT_THAT(values, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(gguf.tensors()[1].type, TensorType::kQ8_0);
  EXPECT_EQ(gguf.tensors()[1].bytes.size(), 68u);
}

TEST(Gguf, RefusesWhatItDoesNotKnowByName) {
  GgufWriter writer;
  const std::vector<std::byte> data(210);
  writer.add_tensor("blk.0.ffn_down.weight", {256}, 16, data);
  const auto gguf = Gguf::parse(writer.finish(), "x.gguf");

  ASSERT_FALSE(gguf);
  EXPECT_EQ(gguf.error().code, ErrorCode::kInvalidRequest);
  EXPECT_THAT(gguf.error().message, HasSubstr("blk.0.ffn_down.weight"));
  EXPECT_THAT(gguf.error().message, HasSubstr("type IQ2_XXS"));
  EXPECT_THAT(gguf.error().message, HasSubstr("Q6_K, IQ4_NL"));
}

TEST(Gguf, RefusesOtherVersionsAndFiles) {
  EXPECT_EQ(Gguf::parse(sample(1).finish(), "x").error().code, ErrorCode::kInvalidRequest);
  auto bytes = sample().finish();
  bytes[0] = std::byte{'X'};
  EXPECT_EQ(Gguf::parse(bytes, "x").error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(Gguf::parse({}, "x").error().code, ErrorCode::kCorruptFile);
}

TEST(Gguf, RefusesRepeatedKeysAndTensors) {
  GgufWriter keys;
  keys.add_uint32("a", 1);
  keys.add_uint32("a", 2);
  EXPECT_EQ(Gguf::parse(keys.finish(), "x").error().code, ErrorCode::kCorruptFile);
  GgufWriter tensors;
  tensors.add_floats("t", {1}, {1});
  tensors.add_floats("t", {1}, {1});
  EXPECT_EQ(Gguf::parse(tensors.finish(), "x").error().code, ErrorCode::kCorruptFile);
}

TEST(Gguf, BelievesNoCountThatTheFileCannotHold) {
  GgufWriter writer;
  writer.add_array<std::int32_t>("numbers", 5, {1, 2});
  auto bytes = writer.finish();
  const std::size_t count_at = 24 + 8 + 7 + 4 + 4;
  for (int i = 0; i < 8; ++i) bytes[count_at + i] = std::byte{0x7f};
  EXPECT_EQ(Gguf::parse(bytes, "x").error().code, ErrorCode::kCorruptFile);

  auto counts = sample().finish();
  for (int i = 8; i < 24; ++i) counts[i] = std::byte{0x7f};  // Tensor and value counts.
  EXPECT_EQ(Gguf::parse(counts, "x").error().code, ErrorCode::kCorruptFile);

  GgufWriter axes;
  axes.add_tensor("huge", {std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, {});
  EXPECT_EQ(Gguf::parse(axes.finish(), "x").error().code, ErrorCode::kCorruptFile);
}

TEST(Gguf, RefusesEveryTruncation) {
  const auto bytes = sample().finish();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // Without spare bytes behind it, a read past the end is seen by the sanitizers.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + std::ptrdiff_t(size));
    const auto gguf = Gguf::parse(cut, "x");
    // The padding behind the last tensor may be missing.
    if (size + 32 <= bytes.size()) {
      ASSERT_FALSE(gguf) << size;
    }
    if (!gguf) {
      ASSERT_EQ(gguf.error().code, ErrorCode::kCorruptFile) << size;
    }
  }
}

// Hostile files: every outcome but a clean error or a usable result is a crash.
TEST(Gguf, SurvivesRandomDamage) {
  const auto bytes = sample().finish();
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    auto damaged = bytes;
    const int flips = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < flips; ++i) {
      damaged[random() % damaged.size()] = std::byte(random() % 256);
    }
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto gguf = Gguf::parse(damaged, "x");
    if (!gguf) {
      ASSERT_TRUE(gguf.error().code == ErrorCode::kCorruptFile ||
                  gguf.error().code == ErrorCode::kInvalidRequest);
      continue;
    }
    (void)gguf->strings("words");
    (void)gguf->integers("numbers");
    for (const TensorView& tensor : gguf->tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
      widen(tensor.type, tensor.bytes, tensor.elements(), values.data());
    }
  }
}

}  // namespace
}  // namespace mlxs::engine
