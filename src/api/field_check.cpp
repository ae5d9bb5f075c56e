#include "api/field_check.h"

#include "base/utf8.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

namespace mlxs::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kStopMax = 4;
constexpr std::size_t kPromptsMax = 128;
constexpr std::size_t kMetadataPairsMax = 16;
constexpr std::size_t kMetadataKeyBytesMax = 64;
constexpr std::size_t kMetadataValueBytesMax = 512;

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 40;
  if (text.size() <= kShown) return fmt::format("\"{}\"", text);
  return fmt::format("\"{}…\"", text.substr(0, utf8_complete_prefix(text.substr(0, kShown))));
}

bool one_of(std::string_view choices, std::string_view value) {
  while (!choices.empty()) {
    const auto bar = choices.find('|');
    if (choices.substr(0, bar) == value) return true;
    choices = bar == std::string_view::npos ? std::string_view{} : choices.substr(bar + 1);
  }
  return false;
}

std::string listed(std::string_view choices) {
  std::string text = "one of ";
  for (const char character : choices) {
    if (character == '|')
      text += ", ";
    else
      text += character;
  }
  return text;
}

std::string range_text(std::string_view kind, const Field& field) {
  constexpr double kIntMax = std::numeric_limits<int>::max();
  if (field.max >= kIntMax) return fmt::format("{} of at least {}", kind, field.min);
  if (field.min_excluded)
    return fmt::format("{} above {} and at most {}", kind, field.min, field.max);
  return fmt::format("{} from {} to {}", kind, field.min, field.max);
}

Result<void> check_number(const Field& field, const json::value& value) {
  const bool integer = field.type == FieldType::kInteger;
  const auto expected = [&] { return range_text(integer ? "an integer" : "a number", field); };
  if (!value.is_number() || (integer && !as_integer(value)))
    return invalid_value(field.name, expected(), describe(value));
  const double number = value.to_number<double>();
  const bool below = field.min_excluded ? number <= field.min : number < field.min;
  if (below || number > field.max) return invalid_value(field.name, expected(), describe(value));
  return {};
}

Result<void> check_string(const Field& field, const json::value& value) {
  if (!value.is_string()) return invalid_value(field.name, "a string", describe(value));
  const std::string_view text = value.get_string();
  if (!field.choices.empty() && !one_of(field.choices, text))
    return invalid_value(field.name, listed(field.choices), describe(value));
  if (field.required && text.empty())
    return invalid_value(field.name, "a non-empty string", describe(value));
  if (field.max > 0 && static_cast<double>(text.size()) > field.max)
    return invalid_value(field.name,
                         fmt::format("at most {} bytes", field.max),
                         fmt::format("{} bytes", text.size()));
  return {};
}

Result<void> check_stop(const Field& field, const json::value& value) {
  constexpr std::string_view kExpected =
      "a non-empty string, or a list of at most 4 non-empty strings";
  if (value.is_string() && !value.get_string().empty()) return {};
  if (!value.is_array()) return invalid_value(field.name, kExpected, describe(value));
  const json::array& list = value.get_array();
  if (list.size() > kStopMax)
    return invalid_value(field.name, kExpected, fmt::format("{} of them", list.size()));
  for (std::size_t k = 0; k < list.size(); ++k)
    if (!list[k].is_string() || list[k].get_string().empty())
      return invalid_value(
          fmt::format("{}[{}]", field.name, k), "a non-empty string", describe(list[k]));
  return {};
}

Result<void> check_metadata(const Field& field, const json::value& value) {
  if (!value.is_object()) return invalid_value(field.name, "an object", describe(value));
  const json::object& pairs = value.get_object();
  if (pairs.size() > kMetadataPairsMax)
    return invalid_value(field.name, "at most 16 pairs", fmt::format("{}", pairs.size()));
  for (const auto& [key, entry] : pairs) {
    if (key.size() > kMetadataKeyBytesMax)
      return invalid_value(field.name, "keys of at most 64 bytes", quoted(key));
    const std::string path = fmt::format("{}.{}", field.name, std::string_view{key});
    if (!entry.is_string()) return invalid_value(path, "a string", describe(entry));
    if (entry.get_string().size() > kMetadataValueBytesMax)
      return invalid_value(
          path, "at most 512 bytes", fmt::format("{} bytes", entry.get_string().size()));
  }
  return {};
}

Result<void> check_logit_bias(const Field& field, const json::value& value) {
  if (!value.is_object())
    return invalid_value(field.name, "an object of token ids and biases", describe(value));
  for (const auto& [key, bias] : value.get_object()) {
    std::int32_t id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    if (parsed.ec != std::errc{} || parsed.ptr != key.data() + key.size() || id < 0)
      return invalid_value(field.name, "token ids as keys", quoted(key));
    const bool fits = bias.is_number() && std::abs(bias.to_number<double>()) <= 100;
    if (!fits)
      return invalid_value(fmt::format("{}.{}", field.name, std::string_view{key}),
                           "a number from -100 to 100",
                           describe(bias));
  }
  return {};
}

/// Members that must be booleans when present; others are not looked at.
Result<void> check_booleans(std::string_view param,
                            const json::object& object,
                            std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (const json::value* member = object.if_contains(name);
        member != nullptr && !member->is_null() && !member->is_bool())
      return invalid_value(fmt::format("{}.{}", param, name), "a boolean", describe(*member));
  return {};
}

Result<void> check_token_ids(std::string_view param, const json::array& list) {
  constexpr std::string_view kExpected = "a token id (an integer from 0)";
  for (std::size_t k = 0; k < list.size(); ++k) {
    const auto id = as_integer(list[k]);
    if (!id || *id < 0 || *id > std::numeric_limits<std::int32_t>::max())
      return invalid_value(fmt::format("{}[{}]", param, k), kExpected, describe(list[k]));
  }
  return {};
}

Result<void> check_resume(const json::value& value) {
  if (!value.is_object()) return invalid_value("mlxs.resume", "an object", describe(value));
  const json::value* ids = value.get_object().if_contains("token_ids");
  constexpr std::string_view kIds = "mlxs.resume.token_ids";
  if (ids == nullptr || !ids->is_array())
    return invalid_value(kIds, "a list of token ids", ids == nullptr ? "nothing" : describe(*ids));
  const json::value* hash = value.get_object().if_contains("text_hash");
  if (hash != nullptr && !hash->is_string())
    return invalid_value("mlxs.resume.text_hash", "a string", describe(*hash));
  return check_token_ids(kIds, ids->get_array());
}

Result<void> check_extension(const Field& field, const json::value& value) {
  if (!value.is_object()) return invalid_value(field.name, "an object", describe(value));
  MLXS_TRY(check_booleans(field.name, value.get_object(), {"token_ids"}));
  const json::value* seed = value.get_object().if_contains("seed");
  if (seed != nullptr && !seed->is_null() && !as_seed(*seed))
    return invalid_value("mlxs.seed", "an integer of 64 bits", describe(*seed));
  const json::value* resume = value.get_object().if_contains("resume");
  if (resume != nullptr && !resume->is_null()) return check_resume(*resume);
  return {};
}

Result<void> check_response_format(const Field& field, const json::value& value) {
  constexpr std::string_view kTypes = "text|json_object|json_schema";
  if (!value.is_object()) return invalid_value(field.name, "an object", describe(value));
  const json::value* type = value.get_object().if_contains("type");
  if (type == nullptr) return invalid_value("response_format.type", listed(kTypes), "nothing");
  if (!type->is_string() || !one_of(kTypes, type->get_string()))
    return invalid_value("response_format.type", listed(kTypes), describe(*type));
  return {};
}

Result<void> check_tools(const Field& field, const json::value& value) {
  if (!value.is_array()) return invalid_value(field.name, "a list of tools", describe(value));
  const json::array& tools = value.get_array();
  for (std::size_t k = 0; k < tools.size(); ++k) {
    const std::string path = fmt::format("{}[{}]", field.name, k);
    if (!tools[k].is_object()) return invalid_value(path, "an object", describe(tools[k]));
    const json::value* type = tools[k].get_object().if_contains("type");
    if (type == nullptr || !type->is_string())
      return invalid_value(
          path + ".type", "a string", type == nullptr ? "nothing" : describe(*type));
  }
  return {};
}

Result<void> check_tool_choice(const Field& field, const json::value& value) {
  constexpr std::string_view kModes = "none|auto|required";
  if (value.is_object()) return {};
  if (value.is_string() && one_of(kModes, value.get_string())) return {};
  return invalid_value(field.name, listed(kModes) + ", or an object", describe(value));
}

Result<void> check_list_size(const Field& field, const json::value& value) {
  const std::string expected = fmt::format("a list of at most {} entries", field.max);
  if (!value.is_array()) return invalid_value(field.name, expected, describe(value));
  const std::size_t size = value.get_array().size();
  if (static_cast<double>(size) > field.max)
    return invalid_value(field.name, expected, fmt::format("{} of them", size));
  return {};
}

Result<void> check_strings(const Field& field, const json::value& value) {
  MLXS_TRY(check_list_size(field, value));
  const json::array& list = value.get_array();
  for (std::size_t k = 0; k < list.size(); ++k)
    if (!list[k].is_string() || list[k].get_string().empty())
      return invalid_value(
          fmt::format("{}[{}]", field.name, k), "a non-empty string", describe(list[k]));
  return {};
}

Result<void> check_prompt(const Field& field, const json::value& value) {
  if (value.is_string()) return {};
  constexpr std::string_view kExpected = "a string or a list of token ids";
  if (!value.is_array()) return invalid_value(field.name, kExpected, describe(value));
  const json::array& list = value.get_array();
  if (list.empty()) return invalid_value(field.name, kExpected, "an empty list");
  if (list[0].is_number()) return check_token_ids(field.name, list);
  if (list.size() > kPromptsMax)
    return invalid_value(field.name,
                         fmt::format("at most {} prompts", kPromptsMax),
                         fmt::format("{} of them", list.size()));
  for (std::size_t k = 0; k < list.size(); ++k) {
    const std::string path = fmt::format("{}[{}]", field.name, k);
    if (list[k].is_array() && !list[k].get_array().empty())
      MLXS_TRY(check_token_ids(path, list[k].get_array()));
    else if (!list[k].is_string())
      return invalid_value(path, kExpected, describe(list[k]));
  }
  return {};
}

Result<void> check_type(const Field& field, const json::value& value) {
  switch (field.type) {
    case FieldType::kString:
      return check_string(field, value);
    case FieldType::kInteger:
    case FieldType::kNumber:
      return check_number(field, value);
    case FieldType::kStop:
      return check_stop(field, value);
    case FieldType::kMetadata:
      return check_metadata(field, value);
    case FieldType::kStrings:
      return check_strings(field, value);
    case FieldType::kTokenIds:
      MLXS_TRY(check_list_size(field, value));
      return check_token_ids(field.name, value.get_array());
    case FieldType::kLogitBias:
      return check_logit_bias(field, value);
    case FieldType::kResponseFormat:
      return check_response_format(field, value);
    case FieldType::kTools:
      return check_tools(field, value);
    case FieldType::kToolChoice:
      return check_tool_choice(field, value);
    case FieldType::kPrompt:
      return check_prompt(field, value);
    case FieldType::kExtension:
      return check_extension(field, value);
    case FieldType::kBoolean:
      if (!value.is_bool()) return invalid_value(field.name, "a boolean", describe(value));
      return {};
    case FieldType::kSeed:
      if (!as_seed(value))
        return invalid_value(field.name, "an integer of 64 bits", describe(value));
      return {};
    case FieldType::kObject:
      if (!value.is_object()) return invalid_value(field.name, "an object", describe(value));
      return {};
    case FieldType::kArray:
      if (!value.is_array()) return invalid_value(field.name, "a list", describe(value));
      return {};
    case FieldType::kMessages:
      if (!value.is_array())
        return invalid_value(field.name, "a list of messages", describe(value));
      return {};
    case FieldType::kStreamOptions:
      if (!value.is_object()) return invalid_value(field.name, "an object", describe(value));
      return check_booleans(
          field.name, value.get_object(), {"include_usage", "include_obfuscation"});
  }
  return {};
}

bool equal(const json::value& a, const json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  return a == b;
}

Result<void> check_support(const Field& field, const json::value& value) {
  if (field.support != Support::kOnlyDefault) return {};
  const json::value accepted = json::parse(field.accepted_json);
  std::string or_send;
  for (const json::value& candidate : accepted.get_array()) {
    if (equal(candidate, value)) return {};
    or_send += fmt::format(" or send {}", json::serialize(candidate));
  }
  return fail(ErrorCode::kUnsupportedParameter,
              fmt::format("Unsupported parameter: '{}' cannot be honoured by this server; leave it "
                          "out{}.",
                          field.name,
                          or_send),
              std::string{field.name});
}

}  // namespace

Error invalid_value(std::string_view param, std::string_view expected, std::string_view got) {
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("Invalid '{}': expected {}, got {}.", param, expected, got),
              std::string{param});
}

std::string describe(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::object:
      return "an object";
    case json::kind::array:
      return value.get_array().empty() ? "an empty list" : "a list";
    case json::kind::string:
      return fmt::format("the string {}", quoted(value.get_string()));
    case json::kind::bool_:
      return value.get_bool() ? "true" : "false";
    default:
      return json::serialize(value);
  }
}

std::optional<std::int64_t> as_integer(const json::value& value) {
  if (const auto* integer = value.if_int64()) return *integer;
  const double* number = value.if_double();
  // Beyond 2^53 a double no longer says which integer was meant.
  constexpr double kExact = 9007199254740992.0;
  if (number == nullptr || std::abs(*number) > kExact || std::trunc(*number) != *number)
    return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

std::optional<std::uint64_t> as_seed(const json::value& value) {
  if (const auto* natural = value.if_uint64()) return *natural;
  if (const auto integer = as_integer(value)) return static_cast<std::uint64_t>(*integer);
  return std::nullopt;
}

Result<void> check_field(const Field& field, const json::value& value) {
  MLXS_TRY(check_type(field, value));
  return check_support(field, value);
}

}  // namespace mlxs::api
