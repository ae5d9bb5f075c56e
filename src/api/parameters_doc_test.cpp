// docs/parameters.md is made from the table in schema.cpp; this test fails when the two differ.
// MLXS_UPDATE_DOCS=1 makes it write the page instead.
#include "api/schema.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace mlxs::api {
namespace {

std::string type_of(const Field& field) {
  switch (field.type) {
    case FieldType::kString:
      return field.choices.empty() ? "string" : "one of " + std::string{field.choices};
    case FieldType::kBoolean:
      return "boolean";
    case FieldType::kInteger:
    case FieldType::kNumber:
      return fmt::format("{} in {}{}, {}]",
                         field.type == FieldType::kInteger ? "integer" : "number",
                         field.min_excluded ? "(" : "[",
                         field.min,
                         field.max > 1e6 ? std::string{"2^31 - 1"} : fmt::format("{}", field.max));
    case FieldType::kSeed:
      return "64-bit integer";
    case FieldType::kObject:
      return "object";
    case FieldType::kArray:
      return "list";
    case FieldType::kMetadata:
      return "object of at most 16 strings";
    case FieldType::kStrings:
      return fmt::format("list of at most {} strings", field.max);
    case FieldType::kTokenIds:
      return fmt::format("list of at most {} token ids", field.max);
    case FieldType::kLogitBias:
      return "object of numbers in [-100, 100]";
    case FieldType::kStreamOptions:
      return "object: `include_usage`, `include_obfuscation`";
    case FieldType::kResponseFormat:
      return "object with `type`";
    case FieldType::kTools:
      return "list of tools";
    case FieldType::kToolChoice:
      return "none, auto, required or object";
    case FieldType::kStop:
      return "string, or list of at most 4";
    case FieldType::kMessages:
      return "list of messages";
    case FieldType::kPrompt:
      return "string, or list of token ids";
    case FieldType::kExtension:
      return "object: `seed`, `token_ids`";
  }
  return {};
}

std::string support_of(const Field& field) {
  switch (field.support) {
    case Support::kHonoured:
      return "honoured";
    case Support::kNoEffect:
      return "accepted; does not change the answer";
    case Support::kOnlyDefault:
      return field.accepted_json == "[]"
                 ? std::string{"400 `unsupported_parameter`"}
                 : fmt::format("only {}; else 400 `unsupported_parameter`",
                               field.accepted_json.substr(1, field.accepted_json.size() - 2));
  }
  return {};
}

std::string escaped(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

std::string page() {
  std::string text =
      "# Request parameters\n\n"
      "What native models do with every documented field. Foreign models get every field "
      "unchanged. A\n"
      "field that nobody documents is ignored and logged once. `null` means absent unless the "
      "field is\n"
      "required. Made from the table in `src/api/schema.cpp`\n"
      "(`MLXS_UPDATE_DOCS=1 build/release/bin/api_test --gtest_filter='ParametersPage.*'`).\n";
  for (const Surface surface : {Surface::kChat, Surface::kCompletions}) {
    text += surface == Surface::kChat ? "\n## POST /v1/chat/completions\n"
                                      : "\n## POST /v1/completions\n";
    text += "\n| field | type | native models |\n|---|---|---|\n";
    for (const Field& field : fields(surface))
      text += fmt::format("| `{}`{} | {} | {} |\n",
                          field.name,
                          field.required ? " (required)" : "",
                          escaped(type_of(field)),
                          support_of(field));
  }
  return text;
}

TEST(ParametersPage, EqualsTheTable) {
  const std::string path = std::string{MLXS_SOURCE_DIR} + "/docs/parameters.md";
  if (std::getenv("MLXS_UPDATE_DOCS") != nullptr) std::ofstream{path} << page();

  std::ifstream file{path};
  std::stringstream written;
  written << file.rdbuf();

  EXPECT_EQ(written.str(), page());
}

}  // namespace
}  // namespace mlxs::api
