#include "engine/load/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::engine {
namespace {

using ::testing::HasSubstr;

boost::json::object parsed(const std::string& text) {
  return parse_json_object(text, "config.json").value();
}

TEST(ConfigReader, ReadsEachType) {
  const auto config = parsed(R"({"n":3,"f":2.0,"x":0.5,"b":true,"s":"t","o":{},"none":null})");
  ConfigReader reader(config, "config.json");

  EXPECT_EQ(reader.count("n"), 3);
  EXPECT_EQ(reader.count("f"), 2);
  EXPECT_EQ(reader.count("none", 7), 7);
  EXPECT_EQ(reader.number("x"), 0.5);
  EXPECT_EQ(reader.number("n"), 3.0);
  EXPECT_TRUE(reader.boolean("b", false));
  EXPECT_EQ(reader.string("s"), "t");
  EXPECT_NE(reader.object("o"), nullptr);
  EXPECT_EQ(reader.object("absent"), nullptr);
  EXPECT_TRUE(reader.status());
}

TEST(ConfigReader, NamesFileAndKeyOfTheFirstError) {
  const auto config = parsed(R"({"hidden_size":"big","layers":0})");
  ConfigReader reader(config, "some/config.json");

  reader.count("hidden_size");
  reader.count("layers");

  const auto status = reader.status();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(status.error().param, "hidden_size");
  EXPECT_THAT(status.error().message, HasSubstr("some/config.json"));
}

TEST(ConfigReader, RefusesWrongTypesAndSizes) {
  for (const char* value : {"0", "-1", "1.5", "16777217", "1e12", "true", "\"1\"", "[]"}) {
    const auto config = parsed(std::string(R"({"n":)") + value + "}");
    ConfigReader reader(config, "config.json");
    reader.count("n");
    EXPECT_FALSE(reader.status()) << value;
  }
  const auto config = parsed(R"({"n":1})");
  for (const auto& read : {+[](ConfigReader& reader) { (void)reader.boolean("n", false); },
                           +[](ConfigReader& reader) { (void)reader.string("n"); },
                           +[](ConfigReader& reader) { (void)reader.object("n"); },
                           +[](ConfigReader& reader) { (void)reader.count("absent"); }}) {
    ConfigReader reader(config, "config.json");
    read(reader);
    EXPECT_FALSE(reader.status());
  }
}

TEST(ConfigReader, BoundsTheDepthOfJson) {
  const std::string deep =
      std::string(R"({"a":)") + std::string(1000, '[') + std::string(1000, ']') + "}";
  EXPECT_EQ(parse_json_object(deep, "x").error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(parse_json_object("[1]", "x").error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(parse_json_object("{", "x").error().code, ErrorCode::kCorruptFile);
}

}  // namespace
}  // namespace mlxs::engine
