#include "api/messages.h"

#include "api/field_check.h"
#include "api/json_text.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace mlxs::api {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 5> kRoles{
    "system", "developer", "user", "assistant", "tool"};

/// The member unless it is absent or null, which mean the same everywhere in a message.
const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string described(const json::value* value) {
  return value == nullptr ? "nothing" : describe(*value);
}

Error unsupported(std::string path, std::string_view what) {
  return fail(ErrorCode::kUnsupportedParameter,
              fmt::format("Unsupported '{}': this server takes text only, got {}.", path, what),
              std::move(path));
}

Result<void> check_string(const json::object& object,
                          std::string_view name,
                          const std::string& path,
                          bool required) {
  const json::value* value = member(object, name);
  if (value == nullptr ? !required : value->is_string()) return {};
  return invalid_value(fmt::format("{}.{}", path, name), "a string", described(value));
}

Result<void> check_part(const json::value& part, const std::string& path) {
  if (!part.is_object()) return invalid_value(path, "an object", describe(part));
  MLXS_TRY(check_string(part.get_object(), "type", path, true));
  const json::value& type = part.get_object().at("type");
  if (type.get_string() != "text") return unsupported(path + ".type", describe(type));
  return check_string(part.get_object(), "text", path, true);
}

Result<void> check_tool_call(const json::value& call, const std::string& path) {
  if (!call.is_object()) return invalid_value(path, "an object", describe(call));
  const json::object& object = call.get_object();
  MLXS_TRY(check_string(object, "id", path, true));
  MLXS_TRY(check_string(object, "type", path, true));
  const json::value& type = object.at("type");
  if (type.get_string() != "function")
    return invalid_value(path + ".type", "\"function\"", describe(type));
  const json::value* function = member(object, "function");
  if (function == nullptr || !function->is_object())
    return invalid_value(path + ".function", "an object", described(function));
  MLXS_TRY(check_string(function->get_object(), "name", path + ".function", true));
  return check_string(function->get_object(), "arguments", path + ".function", true);
}

Result<void> check_tool_calls(const json::value& calls, const std::string& path) {
  if (!calls.is_array() || calls.get_array().empty())
    return invalid_value(path, "a non-empty list", describe(calls));
  for (std::size_t k = 0; k < calls.get_array().size(); ++k)
    MLXS_TRY(check_tool_call(calls.get_array()[k], fmt::format("{}[{}]", path, k)));
  return {};
}

Result<void> check_content(const json::object& message, const std::string& path, bool required) {
  const std::string content_path = path + ".content";
  const json::value* content = member(message, "content");
  if (content == nullptr ? !required : content->is_string()) return {};
  if (content == nullptr || !content->is_array() || content->get_array().empty())
    return invalid_value(content_path, "a string or a non-empty list of parts", described(content));
  const json::array& parts = content->get_array();
  for (std::size_t k = 0; k < parts.size(); ++k)
    MLXS_TRY(check_part(parts[k], fmt::format("{}[{}]", content_path, k)));
  return {};
}

Result<void> check_message(const json::value& value, const std::string& path) {
  if (!value.is_object()) return invalid_value(path, "an object", describe(value));
  const json::object& message = value.get_object();
  const json::value* role = member(message, "role");
  const bool known = role != nullptr && role->is_string() &&
                     std::ranges::find(kRoles, role->get_string()) != kRoles.end();
  if (!known)
    return invalid_value(
        path + ".role", "one of system, developer, user, assistant, tool", described(role));
  const bool assistant = role->get_string() == "assistant";
  const json::value* calls = assistant ? member(message, "tool_calls") : nullptr;
  if (calls != nullptr) MLXS_TRY(check_tool_calls(*calls, path + ".tool_calls"));
  for (const std::string_view name : {"audio", "function_call"})
    if (const json::value* other = member(message, name); other != nullptr)
      return unsupported(fmt::format("{}.{}", path, name), describe(*other));
  MLXS_TRY(check_content(message, path, calls == nullptr));
  MLXS_TRY(check_string(message, "name", path, false));
  MLXS_TRY(check_string(message, "refusal", path, false));
  return check_string(message, "tool_call_id", path, role->get_string() == "tool");
}

void append_joined(std::string& out, const json::array& parts) {
  std::string text;
  for (const json::value& part : parts) text += part.at("text").get_string();
  append_json_string(out, text);
}

void append_message(std::string& out, const json::object& message) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : message) {
    if (value.is_null()) continue;
    if (!first) out += ',';
    first = false;
    append_json_string(out, key);
    out += ':';
    if (key == "role" && value.get_string() == "developer")
      out += "\"system\"";
    else if (key == "content" && value.is_array())
      append_joined(out, value.get_array());
    else
      append_json_value(out, value);
  }
  out += '}';
}

}  // namespace

Result<std::string> template_messages(const json::array& messages) {
  if (messages.empty())
    return invalid_value("messages", "a non-empty list of messages", "an empty list");
  std::string out = "[";
  for (std::size_t k = 0; k < messages.size(); ++k) {
    MLXS_TRY(check_message(messages[k], fmt::format("messages[{}]", k)));
    if (k != 0) out += ',';
    append_message(out, messages[k].get_object());
  }
  out += ']';
  return out;
}

}  // namespace mlxs::api
