#include "api/chunk.h"

#include "api/error_read.h"
#include "api/field_check.h"

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <array>
#include <limits>
#include <utility>

namespace mlxs::api {
namespace {

namespace json = boost::json;

// More than any list of prompts times `n` in use; keeps a broken upstream from making us allocate
// by index.
constexpr std::int64_t kChoicesMax = 4096;

Error no_chunk(std::string_view why) {
  return fail(ErrorCode::kWorkerProtocol, "[chunk] " + std::string{why});
}

/// Null when absent or null.
const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

const json::object* object_member(const json::object& object, std::string_view name) {
  const json::value* value = member(object, name);
  return value == nullptr ? nullptr : value->if_object();
}

/// Appends a string member to `out`; an error when it is present and something else.
Result<void> read_text(const json::object& object, std::string_view name, std::string& out) {
  const json::value* value = member(object, name);
  if (value == nullptr) return {};
  if (!value->is_string()) return no_chunk(std::string{name} + " is no string");
  out += value->get_string();
  return {};
}

std::int64_t count(const json::object& object, std::string_view name) {
  const json::value* value = member(object, name);
  if (value == nullptr) return 0;
  return std::max<std::int64_t>(0, as_integer(*value).value_or(0));
}

std::int64_t detail(const json::object& usage, std::string_view group, std::string_view name) {
  const json::object* details = object_member(usage, group);
  return details == nullptr ? 0 : count(*details, name);
}

Usage read_usage(const json::object& usage) {
  return Usage{.prompt_tokens = count(usage, "prompt_tokens"),
               .completion_tokens = count(usage, "completion_tokens"),
               .cached_tokens = detail(usage, "prompt_tokens_details", "cached_tokens"),
               .reasoning_tokens = detail(usage, "completion_tokens_details", "reasoning_tokens")};
}

/// Copies out of the parser's memory, which ends with the call.
template <class T>
T kept(const T& value) {
  return T(value, json::storage_ptr{});
}

Result<void> read_tool_calls(const json::object& source, bool whole, Delta& delta) {
  const json::value* calls = member(source, "tool_calls");
  if (calls == nullptr) return {};
  if (!calls->is_array()) return no_chunk("tool_calls is no list");
  delta.tool_calls = kept(calls->get_array());
  for (std::size_t k = 0; k < delta.tool_calls.size(); ++k) {
    if (!delta.tool_calls[k].is_object()) return no_chunk("a tool call is no object");
    if (whole) delta.tool_calls[k].get_object()["index"] = k;
  }
  return {};
}

/// `source` is the delta of a chunk or the message of a whole answer.
Result<void> read_message(const json::object& source, bool whole, Delta& delta) {
  MLXS_TRY(read_text(source, "content", delta.text));
  MLXS_TRY(read_text(source, "reasoning_content", delta.reasoning));
  if (delta.reasoning.empty()) MLXS_TRY(read_text(source, "reasoning", delta.reasoning));
  return read_tool_calls(source, whole, delta);
}

Result<Delta> read_choice(Surface surface, bool whole, const json::value& value) {
  if (!value.is_object()) return no_chunk("a choice is no object");
  const json::object& choice = value.get_object();
  Delta delta;
  const std::int64_t index = count(choice, "index");
  if (index >= kChoicesMax) return no_chunk("a choice's index is out of range");
  delta.choice = static_cast<int>(index);
  MLXS_TRY(read_text(choice, "finish_reason", delta.finish_reason));
  if (const json::value* logprobs = member(choice, "logprobs")) delta.logprobs = kept(*logprobs);
  if (surface == Surface::kCompletions) {
    MLXS_TRY(read_text(choice, "text", delta.text));
    return delta;
  }
  const json::value* message = member(choice, whole ? "message" : "delta");
  if (message == nullptr) return delta;
  if (!message->is_object()) return no_chunk("a delta is no object");
  MLXS_TRY(read_message(message->get_object(), whole, delta));
  return delta;
}

/// mlxs.token_ids belongs to the chunk's only choice.
Result<void> read_token_ids(const json::object& chunk, std::vector<Delta>& deltas) {
  const json::object* extension = object_member(chunk, "mlxs");
  const json::value* ids = extension == nullptr ? nullptr : member(*extension, "token_ids");
  if (ids == nullptr || deltas.empty()) return {};
  if (!ids->is_array()) return no_chunk("mlxs.token_ids is no list");
  for (const json::value& value : ids->get_array()) {
    const auto id = as_integer(value);
    if (!id || *id < 0 || *id > std::numeric_limits<std::int32_t>::max())
      return no_chunk("mlxs.token_ids holds something that is no token id");
    deltas.front().token_ids.push_back(static_cast<std::int32_t>(*id));
  }
  return {};
}

bool truthy(const json::value& value) {
  if (value.is_bool()) return value.get_bool();
  if (value.is_string()) return !value.get_string().empty();
  if (value.is_number()) return value.to_number<double>() != 0;
  return !value.is_null();
}

Error upstream_error(const json::value& value) {
  UpstreamError error = read_error_value(value);
  const ErrorCode code = code_named(error).value_or(ErrorCode::kWorkerProtocol);
  return Error{code, std::move(error.message), std::move(error.param)};
}

Result<Chunk> parse(Surface surface, bool whole, std::string_view data) {
  std::array<unsigned char, 4096> buffer;
  json::monotonic_resource memory{buffer.data(), buffer.size()};
  boost::system::error_code failure;
  const json::value parsed = json::parse(data, failure, &memory);
  if (failure) return no_chunk("not JSON: " + failure.message());
  if (!parsed.is_object()) return no_chunk("not an object");
  const json::object& object = parsed.get_object();
  if (const json::value* error = object.if_contains("error"); error != nullptr && truthy(*error))
    return upstream_error(*error);

  Chunk chunk;
  const json::object* usage = object_member(object, "usage");
  if (usage != nullptr) chunk.usage = read_usage(*usage);
  const json::value* choices = member(object, "choices");
  if (choices == nullptr ? usage == nullptr : !choices->is_array())
    return no_chunk("no list of choices");
  if (choices != nullptr) {
    for (const json::value& value : choices->get_array()) {
      auto delta = read_choice(surface, whole, value);
      if (!delta) return std::move(delta).error();
      chunk.deltas.push_back(std::move(*delta));
    }
  }
  MLXS_TRY(read_token_ids(object, chunk.deltas));
  if (const json::value* model = member(object, "model"); model != nullptr && model->is_string())
    chunk.model = model->get_string();
  return chunk;
}

}  // namespace

Result<Chunk> parse_chunk(Surface surface, std::string_view data) {
  return parse(surface, false, data);
}

Result<Chunk> parse_whole(Surface surface, std::string_view body) {
  return parse(surface, true, body);
}

}  // namespace mlxs::api
