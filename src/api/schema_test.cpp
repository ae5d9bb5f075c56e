#include "api/schema.h"

#include "api/request.h"
#include "api/testing/minimal_request.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::api {
namespace {

namespace json = boost::json;

/// The error of a request that is fine but for `field`, or nothing.
std::optional<Error> error_with(Surface surface, const Field& field, json::value value) {
  json::object body = minimal(surface);
  body[field.name] = std::move(value);
  if (field.type == FieldType::kStreamOptions) body["stream"] = true;
  if (field.name == "top_logprobs") body["logprobs"] = true;
  auto envelope = parse_envelope(surface, json::serialize(body));
  if (!envelope) return envelope.error();
  auto request = parse_native(*envelope);
  if (!request) return request.error();
  return std::nullopt;
}

std::vector<json::value> values(std::string_view text) {
  const json::value list = json::parse(text);
  return {list.get_array().begin(), list.get_array().end()};
}

/// Values of a wrong type or beyond the range, made from the row.
std::vector<json::value> invalid_values(const Field& field) {
  switch (field.type) {
    case FieldType::kString:
      if (!field.choices.empty()) return values(R"([1, true, [], {}, "no such choice"])");
      if (field.max > 0)
        return {json::value(std::string(static_cast<std::size_t>(field.max) + 1, 'x'))};
      return values("[1, true, [], {}, 1.5]");
    case FieldType::kBoolean:
      return values(R"([1, 0, "true", [], {}])");
    case FieldType::kInteger: {
      auto list = values(R"(["1", true, [], {}, 1.5, 1e300, 99999999999])");
      list.emplace_back(field.min - 1);
      list.emplace_back(field.max + 1);
      return list;
    }
    case FieldType::kNumber: {
      auto list = values(R"(["1", true, [], {}, 1e300, -1e300])");
      list.emplace_back(field.min - 0.001);
      list.emplace_back(field.max + 0.001);
      if (field.min_excluded) list.emplace_back(field.min);
      return list;
    }
    case FieldType::kSeed:
      return values(R"(["1", true, [], {}, 1.5, 1e300])");
    case FieldType::kObject:
      return values(R"([1, "x", [], true])");
    case FieldType::kArray:
      return values(R"([1, "x", {}, true])");
    case FieldType::kMetadata:
      return values(R"([1, "x", [], {"a": 1}])");
    case FieldType::kStrings:
      return values(R"([1, {}, "x", [""], [1], [["x"]]])");
    case FieldType::kTokenIds:
      return values(R"([1, {}, ["1"], [-1], [1.5], [3000000000]])");
    case FieldType::kLogitBias:
      return values(R"([1, [], {"x": 1}, {"5": 101}, {"5": "1"}])");
    case FieldType::kStreamOptions:
      return values(R"([1, [], "x", {"include_usage": 1}])");
    case FieldType::kResponseFormat:
      return values(R"([1, "text", {}, {"type": "xml"}])");
    case FieldType::kTools:
      return values(R"([1, {}, [1], [{}], [{"type": 1}]])");
    case FieldType::kToolChoice:
      return values(R"([1, [], "sometimes"])");
    case FieldType::kStop:
      return values(R"([1, {}, "", [""], [1], ["a", "b", "c", "d", "e"]])");
    case FieldType::kMessages:
      return values(R"([1, "x", {}, [], [1], [{}]])");
    case FieldType::kPrompt:
      return values(R"([1, {}, [], [-1], [1.5], [1, "x"], [[]], [{}]])");
    case FieldType::kExtension:
      return values(R"([1, [], {"seed": 1.5}, {"seed": "1"}, {"token_ids": 1},
                       {"resume": 1}, {"resume": {}}, {"resume": {"token_ids": [-1]}},
                       {"resume": {"token_ids": [1], "text_hash": 1}}])");
  }
  return {};
}

/// Values that the documentation allows.
std::vector<json::value> valid_values(const Field& field) {
  switch (field.type) {
    case FieldType::kString:
      if (!field.choices.empty())
        return {json::value(field.choices.substr(0, field.choices.find('|')))};
      return values(R"(["x"])");
    case FieldType::kBoolean:
      return values("[true]");
    case FieldType::kInteger: {
      const auto top = static_cast<std::int64_t>(field.max);
      return {json::value(top), json::value(static_cast<double>(top))};
    }
    case FieldType::kNumber:
      return {json::value(field.max), json::value(field.max / 2)};
    case FieldType::kSeed:
      return values("[0, -1, 3.0, 18446744073709551615, -9223372036854775808]");
    case FieldType::kObject:
      return values(R"([{"type": "x"}])");
    case FieldType::kArray:
      return values(R"([["audio"]])");
    case FieldType::kMetadata:
      return values(R"([{}, {"a": "b"}])");
    case FieldType::kStrings:
      return values(R"([[], ["x", "yz"]])");
    case FieldType::kTokenIds:
      return values(R"([[], [0, 7.0]])");
    case FieldType::kLogitBias:
      return values(R"([{"5": -100}, {"5": 0.5}])");
    case FieldType::kStreamOptions:
      return values(R"([{}, {"include_usage": true}])");
    case FieldType::kResponseFormat:
      return values(R"([{"type": "json_object"}])");
    case FieldType::kTools:
      return values(R"([[{"type": "function", "function": {"name": "f"}}]])");
    case FieldType::kToolChoice:
      return values(R"(["required", {"type": "function"}])");
    case FieldType::kStop:
      return values(R"(["a", [], ["a", "b", "c", "d"]])");
    case FieldType::kMessages:
      return values(R"([[{"role": "user", "content": ""}]])");
    case FieldType::kPrompt:
      return values(R"(["", [1, 2], ["one"], [[1, 2]], [3.0]])");
    case FieldType::kExtension:
      return values(R"([{}, {"seed": 7, "token_ids": true}])");
  }
  return {};
}

class EveryField : public testing::TestWithParam<Surface> {};

INSTANTIATE_TEST_SUITE_P(Surfaces,
                         EveryField,
                         testing::Values(Surface::kChat, Surface::kCompletions),
                         [](const auto& instance) {
                           return instance.param == Surface::kChat ? "Chat" : "Completions";
                         });

// R-ENG-6, and what REQUIREMENTS of clients say: 400 with `param`.
TEST_P(EveryField, RefusesWrongTypesAndRangesNamingItself) {
  for (const Field& field : fields(GetParam())) {
    for (const json::value& value : invalid_values(field)) {
      const auto error = error_with(GetParam(), field, value);

      ASSERT_TRUE(error) << field.name << " = " << json::serialize(value);
      EXPECT_EQ(error->code, ErrorCode::kInvalidRequest) << field.name << ": " << error->message;
      EXPECT_TRUE(error->param.starts_with(field.name)) << field.name << ": " << error->param;
      EXPECT_NE(error->message.find(error->param), std::string::npos) << error->message;
    }
  }
}

TEST_P(EveryField, TakesNullAsAbsent) {
  for (const Field& field : fields(GetParam())) {
    const auto error = error_with(GetParam(), field, nullptr);

    ASSERT_EQ(error.has_value(), field.required) << field.name;
    EXPECT_EQ(error ? error->param : "", field.required ? field.name : "");
  }
}

TEST_P(EveryField, IsHonouredOrRefusedButNeverIgnored) {
  for (const Field& field : fields(GetParam())) {
    const bool honoured = field.support != Support::kOnlyDefault;
    for (const json::value& value : valid_values(field)) {
      const auto error = error_with(GetParam(), field, value);

      ASSERT_EQ(error.has_value(), !honoured)
          << field.name << " = " << json::serialize(value) << (error ? error->message : "");
      if (error) {
        EXPECT_EQ(error->code, ErrorCode::kUnsupportedParameter) << error->message;
        EXPECT_EQ(error->param, field.name);
      }
    }
  }
}

TEST_P(EveryField, TakesItsDefaultWhereOnlyThatCanBeHonoured) {
  for (const Field& field : fields(GetParam())) {
    if (field.support != Support::kOnlyDefault) continue;
    for (const json::value& value : values(field.accepted_json)) {
      const auto error = error_with(GetParam(), field, value);

      EXPECT_FALSE(error) << field.name << ": " << error->message;
    }
  }
}

TEST_P(EveryField, StandsOnceAndInOrder) {
  const auto rows = fields(GetParam());

  EXPECT_EQ(std::ranges::adjacent_find(rows, std::ranges::greater_equal{}, &Field::name),
            rows.end());
  for (const Field& field : rows) EXPECT_EQ(find_field(GetParam(), field.name), &field);
  EXPECT_EQ(find_field(GetParam(), "no_such_field"), nullptr);
}

TEST(Schema, ListsAreBounded) {
  const Field& breakers = *find_field(Surface::kChat, "dry_sequence_breakers");
  const Field& stops = *find_field(Surface::kChat, "stop_token_ids");

  EXPECT_FALSE(error_with(Surface::kChat, breakers, json::array(64, "x")));
  EXPECT_TRUE(error_with(Surface::kChat, breakers, json::array(65, "x")));
  EXPECT_FALSE(error_with(Surface::kChat, stops, json::array(64, 1)));
  EXPECT_TRUE(error_with(Surface::kChat, stops, json::array(65, 1)));
}

TEST(Schema, MetadataIsBounded) {
  json::object many;
  for (int k = 0; k < 17; ++k) many[std::to_string(k)] = "x";
  const Field& field = *find_field(Surface::kChat, "metadata");

  EXPECT_TRUE(error_with(Surface::kChat, field, many));
  EXPECT_TRUE(error_with(Surface::kChat, field, {{std::string(65, 'k'), "v"}}));
  EXPECT_TRUE(error_with(Surface::kChat, field, {{"k", std::string(513, 'v')}}));
  EXPECT_FALSE(error_with(Surface::kChat, field, {{std::string(64, 'k'), std::string(512, 'v')}}));
}

}  // namespace
}  // namespace mlxs::api
