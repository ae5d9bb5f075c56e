#include "api/canonical.h"

#include "api/schema.h"
#include "api/testing/minimal_request.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::api {
namespace {

namespace json = boost::json;

std::string canonical(Surface surface, const json::object& body, bool native) {
  std::string out;
  append_canonical(out, surface, body, native);
  return out;
}

std::string canonical(std::string_view body, bool native = true) {
  return canonical(Surface::kChat, json::parse(body).get_object(), native);
}

/// Values of every kind, no two of which mean the same: the matrix flips every field through all
/// of them, whatever its type, so that a field added to the schema is in it from its first day.
std::vector<json::value> kinds() {
  const json::value list = json::parse(
      R"([true, false, 0, 1, 2, 0.5, 1.5, -1, "", "a", "b", "auto", [], ["a", "b"], ["b", "a"],
          [1], {}, {"type": "x"}, {"type": "y"}, {"seed": 7}, {"seed": 8, "more": 1},
          [{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}],
          {"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}}])");
  return {list.get_array().begin(), list.get_array().end()};
}

struct Side {
  Surface surface;
  bool native;
};

class EveryFlip : public testing::TestWithParam<Side> {
 protected:
  [[nodiscard]] std::string with(const Field& field, const json::value& value) const {
    json::object body = minimal(GetParam().surface);
    body[field.name] = value;
    return canonical(GetParam().surface, body, GetParam().native);
  }
};

INSTANTIATE_TEST_SUITE_P(Surfaces,
                         EveryFlip,
                         testing::Values(Side{Surface::kChat, true},
                                         Side{Surface::kChat, false},
                                         Side{Surface::kCompletions, true},
                                         Side{Surface::kCompletions, false}),
                         [](const auto& instance) {
                           return std::string{instance.param.surface == Surface::kChat
                                                  ? "Chat"
                                                  : "Completions"} +
                                  (instance.param.native ? "Native" : "Foreign");
                         });

// R-CACHE-1, generated from the schema: flips of fields that affect the result differ pairwise,
// cosmetic ones are equal to the unflipped request.
TEST_P(EveryFlip, DiffersIfItAffectsTheResultAndElseNot) {
  const std::string plain =
      canonical(GetParam().surface, minimal(GetParam().surface), GetParam().native);
  for (const Field& field : fields(GetParam().surface)) {
    std::vector<std::string> seen;
    for (const json::value& value : kinds()) {
      const std::string flipped = with(field, value);

      if (field.sharing == Sharing::kCosmetic) {
        EXPECT_EQ(flipped, plain) << field.name << " = " << json::serialize(value);
        continue;
      }
      for (std::size_t k = 0; k < seen.size(); ++k)
        EXPECT_NE(flipped, seen[k]) << field.name << " = " << json::serialize(value) << " and "
                                    << json::serialize(kinds()[k]);
      seen.push_back(flipped);
    }
  }
}

TEST_P(EveryFlip, OfAnUndocumentedFieldDiffers) {
  const Field undocumented{.name = "no_such_field", .sharing = Sharing::kVerbatim};

  EXPECT_NE(with(undocumented, 1), with(undocumented, 2));
  EXPECT_NE(with(undocumented, 1),
            canonical(GetParam().surface, minimal(GetParam().surface), GetParam().native));
}

TEST_P(EveryFlip, NullAndTheDefaultAreAbsenceToNativeModelsOnly) {
  const std::string plain =
      canonical(GetParam().surface, minimal(GetParam().surface), GetParam().native);
  for (const Field& field : fields(GetParam().surface)) {
    if (field.required || field.sharing == Sharing::kCosmetic) continue;

    EXPECT_EQ(with(field, nullptr) == plain, GetParam().native) << field.name;
    if (field.default_json.empty()) continue;
    EXPECT_EQ(with(field, json::parse(field.default_json)) == plain, GetParam().native)
        << field.name;
  }
}

TEST(Canonical, OnlyDeliveryAndBookkeepingAreCosmetic) {
  std::set<std::string_view> cosmetic;
  for (const Surface surface : {Surface::kChat, Surface::kCompletions})
    for (const Field& field : fields(surface))
      if (field.sharing == Sharing::kCosmetic) cosmetic.insert(field.name);

  EXPECT_EQ(cosmetic,
            (std::set<std::string_view>{
                "metadata", "service_tier", "store", "stream", "stream_options", "user"}));
}

TEST(Canonical, EnvelopeAndMessageKeysHaveNoOrder) {
  EXPECT_EQ(
      canonical(R"({"model":"m","temperature":1,"messages":[{"role":"user","content":"x"}]})"),
      canonical(R"({"messages": [{"content":"x", "role":"user"}],
                          "temperature":1, "model":"m"})"));
}

TEST(Canonical, TheOrderOfMessagesCounts) {
  EXPECT_NE(canonical(R"({"messages":[{"role":"a"},{"role":"b"}]})"),
            canonical(R"({"messages":[{"role":"b"},{"role":"a"}]})"));
}

TEST(Canonical, BelowMessagesAndInTemplateArgumentsOrderAndNumberKindCount) {
  for (const char* name : {"tools", "response_format", "chat_template_kwargs", "unknown"}) {
    const auto body = [&](const char* value) {
      return canonical(Surface::kChat, json::object{{name, json::parse(value)}}, true);
    };
    EXPECT_NE(body(R"([{"a":1,"b":2}])"), body(R"([{"b":2,"a":1}])")) << name;
    EXPECT_NE(body(R"({"a":1})"), body(R"({"a":1.0})")) << name;
  }
  EXPECT_NE(canonical(R"({"messages":[{"content":[{"a":1,"b":2}]}]})"),
            canonical(R"({"messages":[{"content":[{"b":2,"a":1}]}]})"));
}

TEST(Canonical, NumbersOutsideTheTemplateCompareByValueForNativeModels) {
  for (const bool native : {true, false}) {
    EXPECT_EQ(
        canonical(R"({"temperature":1})", native) == canonical(R"({"temperature":1.0})", native),
        native);
    EXPECT_EQ(canonical(R"({"seed":7})", native) == canonical(R"({"seed":7e0})", native), native);
  }
  EXPECT_NE(canonical(R"({"seed":18446744073709551615})"), canonical(R"({"seed":1})"));
  EXPECT_NE(canonical(R"({"temperature":0.1})"), canonical(R"({"temperature":0.10000001})"));
}

TEST(Canonical, OneStopStringIsAListOfOne) {
  EXPECT_EQ(canonical(R"({"stop":"a"})"), canonical(R"({"stop":["a"]})"));
  EXPECT_NE(canonical(R"({"stop":"a"})"), canonical(R"({"stop":["a","b"]})"));
}

TEST(Canonical, BothNamesOfTheLengthBoundAreOne) {
  EXPECT_EQ(canonical(R"({"max_tokens":5})"), canonical(R"({"max_completion_tokens":5})"));
  EXPECT_EQ(canonical(R"({"max_tokens":9,"max_completion_tokens":5})"),
            canonical(R"({"max_tokens":5,"max_completion_tokens":null})"));
  EXPECT_NE(canonical(R"({"max_tokens":5})", false),
            canonical(R"({"max_completion_tokens":5})", false));
}

TEST(Canonical, TheExtensionCountsWithoutItsDelivery) {
  EXPECT_EQ(canonical(R"({"mlxs":{"token_ids":true,"cache":"refresh"}})"), canonical("{}"));
  EXPECT_EQ(canonical(R"({"mlxs":{"seed":7,"token_ids":true}})"),
            canonical(R"({"mlxs":{"seed":7}})"));
  EXPECT_NE(canonical(R"({"mlxs":{"seed":7}})"), canonical(R"({"mlxs":{"seed":8}})"));
  EXPECT_NE(canonical(R"({"mlxs":{"token_ids":true}})", false), canonical("{}", false));
  EXPECT_EQ(canonical(R"({"mlxs":{"cache":"refresh"}})", false), canonical("{}", false));
}

TEST(Canonical, AKeyCannotPassForAnother) {
  EXPECT_NE(canonical(R"({"a":"x\",\"b\":\"y"})"), canonical(R"({"a":"x","b":"y"})"));
  EXPECT_NE(canonical(R"({"stop":["a,b"]})"), canonical(R"({"stop":["a","b"]})"));
}

}  // namespace
}  // namespace mlxs::api
