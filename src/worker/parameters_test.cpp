// Proves what native models do with every documented field of every surface, through a worker on a
// real socket, and makes docs/parameters.md from the proofs. MLXS_UPDATE_DOCS=1 writes the page.
#include "api/schema.h"
#include "worker/parameter_proofs.h"
#include "worker/worker_fixture.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>

namespace mlxs::worker {
namespace {

namespace json = boost::json;
using api::Field;
using api::Support;
using api::Surface;

const char* target_of(Surface surface) {
  return surface == Surface::kChat ? "/v1/chat/completions" : "/v1/completions";
}

json::object request_of(Surface surface, std::string_view more) {
  json::object body{{"model", "fake"}, {"max_tokens", 48}, {"seed", 1}};
  if (surface == Surface::kChat)
    body["messages"] = json::parse(R"([{"role":"user","content":"abcabd"}])");
  else
    body["prompt"] = "abcabdabc";
  const json::value fields = json::parse(more);
  for (const auto& [name, value] : fields.get_object()) body[name] = value;
  return body;
}

/// The answer without what differs from one answer to the next.
std::string without_identity(std::string body) {
  static const std::regex identity{R"r("id":"[^"]*"|"(created|cached_tokens)":[0-9]+)r"};
  return std::regex_replace(body, identity, "");
}

class Parameters : public testing::TestWithParam<Surface> {
 protected:
  Parameters() { worker_.wait_ready(); }

  http::Response answer(const json::object& body) {
    return post(worker_, target_of(GetParam()), json::serialize(body));
  }
  std::string text(const json::object& body) {
    const auto response = answer(body);
    EXPECT_EQ(response.status, 200) << json::serialize(body) << response.body;
    return without_identity(response.body);
  }
  /// Status and error of a request; no error where it was answered.
  std::string refusal(const json::object& body) {
    const auto response = answer(body);
    return response.status == 200 ? "200"
                                  : fmt::format("{} {}", response.status, error_of(response));
  }

  RunningWorker worker_;
};

INSTANTIATE_TEST_SUITE_P(Surfaces,
                         Parameters,
                         testing::Values(Surface::kChat, Surface::kCompletions),
                         [](const auto& instance) {
                           return instance.param == Surface::kChat ? "Chat" : "Completions";
                         });

// R-ENG-6: each field is honoured, documented as without effect, or refused by name.
TEST_P(Parameters, AreEachProved) {
  for (const Field& field : api::fields(GetParam())) {
    const ParameterProof* proof = find_proof(GetParam(), field.name);

    ASSERT_NE(proof, nullptr) << field.name << " needs a row in parameter_proofs.cpp";
    EXPECT_FALSE(proof->value.empty()) << field.name;
  }
}

TEST_P(Parameters, ThatAreHonouredChangeTheAnswer) {
  for (const Field& field : api::fields(GetParam())) {
    if (field.support != Support::kHonoured) continue;
    const ParameterProof& proof = *find_proof(GetParam(), field.name);
    const json::object plain = request_of(GetParam(), proof.with);
    json::object changed = plain;
    changed[field.name] = json::parse(proof.value);
    if (!proof.refused_as.empty()) {
      EXPECT_EQ(refusal(changed), proof.refused_as) << field.name;
      continue;
    }
    json::object changed_again = changed;
    if (proof.other.empty())
      changed_again.erase(field.name);
    else
      changed_again[field.name] = json::parse(proof.other);

    EXPECT_NE(text(changed), text(changed_again)) << json::serialize(changed);
    // What a stream's chunks hold depends on time.
    const bool streamed = changed.contains("stream");
    if (streamed) continue;
    EXPECT_EQ(text(changed), text(changed)) << json::serialize(changed);
  }
}

TEST_P(Parameters, WithoutEffectLeaveTheAnswerAsItIs) {
  for (const Field& field : api::fields(GetParam())) {
    if (field.support != Support::kNoEffect) continue;
    const ParameterProof& proof = *find_proof(GetParam(), field.name);
    json::object given = request_of(GetParam(), proof.with);
    const std::string plain = text(given);
    given[field.name] = json::parse(proof.value);

    EXPECT_EQ(text(given), plain) << field.name;
  }
}

TEST_P(Parameters, ThatCannotBeHonouredAreRefusedByName) {
  for (const Field& field : api::fields(GetParam())) {
    if (field.support != Support::kOnlyDefault) continue;
    const ParameterProof& proof = *find_proof(GetParam(), field.name);
    json::object given = request_of(GetParam(), proof.with);
    const std::string plain = text(given);
    const json::value accepted = json::parse(field.accepted_json);
    for (const json::value& value : accepted.get_array()) {
      given[field.name] = value;
      EXPECT_EQ(text(given), plain) << field.name;
    }
    given[field.name] = json::parse(proof.value);

    EXPECT_EQ(refusal(given), fmt::format("400 unsupported_parameter {}", field.name));
  }
}

std::string type_of(const Field& field) {
  switch (field.type) {
    case api::FieldType::kString:
      return field.choices.empty() ? "string" : "one of " + std::string{field.choices};
    case api::FieldType::kBoolean:
      return "boolean";
    case api::FieldType::kInteger:
    case api::FieldType::kNumber:
      return fmt::format("{} in {}{}, {}]",
                         field.type == api::FieldType::kInteger ? "integer" : "number",
                         field.min_excluded ? "(" : "[",
                         field.min,
                         field.max > 1e6 ? std::string{"2^31 - 1"} : fmt::format("{}", field.max));
    case api::FieldType::kSeed:
      return "64-bit integer";
    case api::FieldType::kObject:
      return "object";
    case api::FieldType::kArray:
      return "list";
    case api::FieldType::kMetadata:
      return "object of at most 16 strings";
    case api::FieldType::kStrings:
      return fmt::format("list of at most {} strings", field.max);
    case api::FieldType::kTokenIds:
      return fmt::format("list of at most {} token ids", field.max);
    case api::FieldType::kLogitBias:
      return "object of numbers in [-100, 100]";
    case api::FieldType::kStreamOptions:
      return "object: `include_usage`, `include_obfuscation`";
    case api::FieldType::kResponseFormat:
      return "object with `type`";
    case api::FieldType::kTools:
      return "list of tools";
    case api::FieldType::kToolChoice:
      return "none, auto, required or object";
    case api::FieldType::kStop:
      return "string, or list of at most 4";
    case api::FieldType::kMessages:
      return "list of messages";
    case api::FieldType::kPrompt:
      return "string, list of token ids, or list of at most 128 of either";
    case api::FieldType::kExtension:
      return "object: `seed`, `token_ids`, `resume`, `cache`";
  }
  return {};
}

/// What the tests above have shown.
std::string shown_of(const Field& field, const ParameterProof& proof) {
  const auto code = [](std::string_view text) { return fmt::format("`{}`", text); };
  switch (field.support) {
    case Support::kHonoured:
      if (!proof.shows.empty()) return std::string{proof.shows};
      return fmt::format("honoured (shown by {}{})",
                         code(proof.value),
                         proof.with == "{}" ? "" : fmt::format(" with {}", code(proof.with)));
    case Support::kNoEffect:
      return proof.shows.empty() ? "accepted; does not change the answer"
                                 : std::string{proof.shows};
    case Support::kOnlyDefault:
      return field.accepted_json == "[]"
                 ? std::string{"400 `unsupported_parameter`"}
                 : fmt::format("only {}; else 400 `unsupported_parameter`",
                               field.accepted_json.substr(1, field.accepted_json.size() - 2));
  }
  return {};
}

/// A cell of a table: bars would end it.
std::string cell(std::string_view text) {
  std::string escaped;
  for (const char character : text) {
    if (character == '|') escaped += '\\';
    escaped += character;
  }
  return escaped;
}

std::string page() {
  std::string text =
      "# Request parameters\n\n"
      "What native models do with every documented field. Foreign models get every field "
      "unchanged. A\n"
      "field that nobody documents is ignored and logged once. `null` means absent unless the "
      "field is\n"
      "required. Made from the table in `src/api/schema.cpp` by the tests that prove each row\n"
      "through a worker (`MLXS_UPDATE_DOCS=1 build/release/bin/worker_test "
      "--gtest_filter='ParametersPage.*'`).\n\n"
      "Order of what changes a draw: tokens banned by `min_tokens`, `logit_bias`, "
      "`repetition_penalty`,\n"
      "`frequency_penalty` and `presence_penalty` (vLLM's order), DRY; with temperature 0 the best "
      "token is\n"
      "taken; else `temperature`, `top_k`, `top_p`, `min_p` (transformers' order), XTC "
      "(llama.cpp's rule).\n"
      "A `logit_bias` of -100 bans its token; with one of 100 only such tokens come. Until "
      "`min_tokens` were\n"
      "generated neither end tokens nor stop strings end an answer.\n";
  for (const Surface surface : {Surface::kChat, Surface::kCompletions}) {
    text += surface == Surface::kChat ? "\n## POST /v1/chat/completions\n"
                                      : "\n## POST /v1/completions\n";
    text += "\n| field | type | native models |\n|---|---|---|\n";
    for (const Field& field : api::fields(surface)) {
      const ParameterProof* proof = find_proof(surface, field.name);
      if (proof == nullptr) continue;  // Another test says so.
      text += fmt::format("| `{}`{} | {} | {} |\n",
                          field.name,
                          field.required ? " (required)" : "",
                          cell(type_of(field)),
                          cell(shown_of(field, *proof)));
    }
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
}  // namespace mlxs::worker
