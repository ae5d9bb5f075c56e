#include "api/canonical.h"

#include "api/field_check.h"
#include "api/json_text.h"
#include "api/schema.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::api {
namespace {

namespace json = boost::json;

using Member = std::pair<std::string_view, const json::value*>;

std::vector<Member> sorted_members(const json::object& object) {
  std::vector<Member> members;
  members.reserve(object.size());
  for (const auto& [key, value] : object) members.emplace_back(key, &value);
  std::ranges::sort(members, {}, &Member::first);
  return members;
}

void append_verbatim(std::string& out, const json::value& value) {
  if (const json::string* text = value.if_string())
    append_json_string(out, *text);
  else
    append_json_value(out, value);
}

void append_number(std::string& out, const json::value& value) {
  if (const auto integer = as_integer(value)) {
    append_json_integer(out, *integer);
  } else if (value.is_double()) {
    std::array<char, 32> digits;
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), value.get_double()).ptr;
    out.append(digits.data(), end);
  } else {
    append_json_value(out, value);  // beyond 2^63
  }
}

void append_by_value(std::string& out, const json::value& value) {
  if (value.is_number()) {
    append_number(out, value);
  } else if (const json::array* list = value.if_array()) {
    out += '[';
    for (const json::value& entry : *list) {
      append_by_value(out, entry);
      out += ',';
    }
    out += ']';
  } else if (const json::object* object = value.if_object()) {
    out += '{';
    for (const auto& [key, member] : sorted_members(*object)) {
      append_json_string(out, key);
      out += ':';
      append_by_value(out, *member);
      out += ',';
    }
    out += '}';
  } else {
    append_verbatim(out, value);
  }
}

void append_messages(std::string& out, const json::value& value) {
  const json::array* messages = value.if_array();
  if (messages == nullptr) return append_verbatim(out, value);
  out += '[';
  for (const json::value& message : *messages) {
    if (const json::object* object = message.if_object()) {
      out += '{';
      for (const auto& [key, member] : sorted_members(*object)) {
        append_json_string(out, key);
        out += ':';
        append_verbatim(out, *member);
        out += ',';
      }
      out += '}';
    } else {
      append_verbatim(out, message);
    }
    out += ',';
  }
  out += ']';
}

void append_stop(std::string& out, const json::value& value) {
  if (!value.is_string()) return append_by_value(out, value);
  out += '[';
  append_verbatim(out, value);
  out += ",]";
}

// `token_ids` asks how the answer is shown: a native worker always sends ids, the gateway passes
// them on to those who asked. A foreign server may make something else of it.
void append_extension(std::string& out, const json::value& value, bool native) {
  const json::object* object = value.if_object();
  if (object == nullptr) return append_verbatim(out, value);
  const std::size_t before = out.size();
  out += '{';
  for (const auto& [key, member] : sorted_members(*object)) {
    if (key == "cache" || (native && (key == "token_ids" || member->is_null()))) continue;
    append_json_string(out, key);
    out += ':';
    if (native)
      append_by_value(out, *member);
    else
      append_verbatim(out, *member);
    out += ',';
  }
  out += '}';
  if (out.size() == before + 2) out.resize(before);  // nothing in it counts
}

// The bound that a native worker takes where both names are given.
const json::value* length_of(Surface surface, const json::object& body) {
  for (const std::string_view name : {"max_completion_tokens", "max_tokens"}) {
    const json::value* given = body.if_contains(name);
    if (given != nullptr && !given->is_null() && find_field(surface, name) != nullptr) return given;
  }
  return nullptr;
}

void append_field(std::string& out, const Field* field, const json::value& value, bool native) {
  const Sharing::Form form = field == nullptr ? Sharing::kVerbatim : Sharing::Form{field->sharing};
  if (form == Sharing::kMessages) return append_messages(out, value);
  if (form == Sharing::kExtension) return append_extension(out, value, native);
  if (!native || form == Sharing::kVerbatim) return append_verbatim(out, value);
  if (form == Sharing::kStop) return append_stop(out, value);
  append_by_value(out, value);
}

}  // namespace

void append_canonical(std::string& out, Surface surface, const json::object& body, bool native) {
  const json::value* length = native ? length_of(surface, body) : nullptr;
  out += '{';
  for (const auto& [key, value] : sorted_members(body)) {
    const Field* field = find_field(surface, key);
    if (field != nullptr && field->sharing == Sharing::kCosmetic) continue;
    if (native && field != nullptr &&
        (value->is_null() || (field->sharing == Sharing::kLength && value != length)))
      continue;
    const std::size_t before = out.size();
    append_json_string(out, value == length ? std::string_view{"max_tokens"} : key);
    out += ':';
    const std::size_t begin = out.size();
    append_field(out, field, *value, native);
    const std::string_view text = std::string_view{out}.substr(begin);
    if (text.empty() || (native && field != nullptr && text == field->default_json))
      out.resize(before);
    else
      out += ',';
  }
  out += '}';
}

}  // namespace mlxs::api
