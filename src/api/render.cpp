#include "api/render.h"

#include "api/errors.h"
#include "api/field_check.h"
#include "api/json_text.h"

#include <boost/json/object.hpp>

#include <cstddef>
#include <string_view>
#include <utility>

namespace mlxs::api {
namespace {

namespace json = boost::json;

void append_usage_object(std::string& out, const Usage& usage) {
  out += "{\"prompt_tokens\":";
  append_json_integer(out, usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  append_json_integer(out, usage.completion_tokens);
  out += ",\"total_tokens\":";
  append_json_integer(out, usage.prompt_tokens + usage.completion_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  append_json_integer(out, usage.cached_tokens);
  out += "},\"completion_tokens_details\":{\"reasoning_tokens\":";
  append_json_integer(out, usage.reasoning_tokens);
  out += "}}";
}

/// `{"id":…,"object":…,"created":…,"model":…,"choices":[` — equal in every frame of an answer.
std::string opening(const AnswerHead& head, std::string_view object) {
  std::string out = "{\"id\":";
  append_json_string(out, head.id);
  out += ",\"object\":";
  append_json_string(out, object);
  out += ",\"created\":";
  append_json_integer(out, head.created);
  out += ",\"model\":";
  append_json_string(out, head.model);
  out += ",\"choices\":[";
  return out;
}

void append_logprobs(std::string& out, const json::value& logprobs) {
  out += ",\"logprobs\":";
  if (logprobs.is_null())
    out += "null";
  else
    append_json_value(out, logprobs);
}

void append_finish_reason(std::string& out, const std::string& reason) {
  out += ",\"finish_reason\":";
  if (reason.empty())
    out += "null";
  else
    append_json_string(out, reason);
}

/// The members of a chat delta that `delta` fills, after an opening brace.
void append_delta_members(std::string& out, const Delta& delta) {
  bool first = true;
  const auto name = [&](std::string_view key) {
    if (!first) out += ',';
    first = false;
    append_json_string(out, key);
    out += ':';
  };
  if (!delta.reasoning.empty()) {
    name("reasoning_content");
    append_json_string(out, delta.reasoning);
  }
  if (!delta.text.empty()) {
    name("content");
    append_json_string(out, delta.text);
  }
  if (!delta.tool_calls.empty()) {
    name("tool_calls");
    append_json_value(out, delta.tool_calls);
  }
}

void append_token_ids(std::string& out, const std::vector<std::int32_t>& ids) {
  out += ",\"mlxs\":{\"token_ids\":[";
  for (std::size_t k = 0; k < ids.size(); ++k) {
    if (k != 0) out += ',';
    append_json_integer(out, ids[k]);
  }
  out += "]}";
}

bool has_content(const Delta& delta) {
  return !delta.text.empty() || !delta.reasoning.empty() || !delta.tool_calls.empty() ||
         !delta.logprobs.is_null();
}

/// Adds one streamed fragment of a tool call to the call it belongs to, as clients join them:
/// names and ids stay, arguments grow.
void join_tool_call(json::array& calls, const json::object& fragment) {
  const json::value* given = fragment.if_contains("index");
  const auto index = given == nullptr ? std::nullopt : as_integer(*given);
  // A call may only follow the one before it, so a wild index cannot make us allocate.
  const auto at =
      std::min(static_cast<std::size_t>(index && *index >= 0 ? *index : 0), calls.size());
  if (at == calls.size()) calls.emplace_back(json::object{});
  json::object& call = calls[at].get_object();
  for (const auto& [key, value] : fragment) {
    if (key == "index") continue;
    if (key != "function" || !value.is_object()) {
      call.emplace(key, value);
      continue;
    }
    json::value& function = call["function"];
    if (!function.is_object()) function.emplace_object();
    for (const auto& [name, part] : value.get_object()) {
      json::value& slot = function.get_object()[name];
      if (name == "arguments" && slot.is_string() && part.is_string())
        slot.get_string() += part.get_string();
      else if (slot.is_null())
        slot = part;
    }
  }
}

/// Both are objects of lists (chat: content, refusal; completions: tokens, token_logprobs, …).
void join_logprobs(json::value& all, const json::value& more) {
  if (!all.is_object() || !more.is_object()) {
    if (all.is_null()) all = more;
    return;
  }
  for (const auto& [name, list] : more.get_object()) {
    json::value& slot = all.get_object()[name];
    if (slot.is_array() && list.is_array())
      slot.get_array().insert(
          slot.get_array().end(), list.get_array().begin(), list.get_array().end());
    else if (slot.is_null())
      slot = list;
  }
}

}  // namespace

StreamRenderer::StreamRenderer(AnswerHead head, bool with_usage, bool with_token_ids)
    : chat_(head.surface == Surface::kChat),
      opening_("data: " + opening(head, chat_ ? "chat.completion.chunk" : "text_completion")),
      with_usage_(with_usage),
      with_token_ids_(with_token_ids) {}

void StreamRenderer::open(std::string& out, int choice) const {
  out += opening_;
  out += "{\"index\":";
  append_json_integer(out, choice);
}

void StreamRenderer::close(std::string& out,
                           const Delta& delta,
                           const std::string& finish_reason,
                           bool with_ids) const {
  append_finish_reason(out, finish_reason);
  out += "}]";
  if (with_usage_) out += ",\"usage\":null";
  if (with_ids && with_token_ids_ && !delta.token_ids.empty())
    append_token_ids(out, delta.token_ids);
  out += "}\n\n";
}

void StreamRenderer::append_role(std::string& out, int choice) {
  const auto index = static_cast<std::size_t>(choice);
  if (role_sent_.size() <= index) role_sent_.resize(index + 1);
  if (role_sent_[index]) return;
  role_sent_[index] = true;
  open(out, choice);
  out += ",\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null";
  close(out, Delta{}, {}, false);
}

void StreamRenderer::append(std::string& out, const Delta& delta) {
  const bool finishes = !delta.finish_reason.empty();
  const bool ids = with_token_ids_ && !delta.token_ids.empty();
  const bool content = has_content(delta);
  if (!content && !finishes && !ids) return;
  if (!chat_) {
    open(out, delta.choice);
    out += ",\"text\":";
    append_json_string(out, delta.text);
    append_logprobs(out, delta.logprobs);
    close(out, delta, delta.finish_reason, true);
    return;
  }
  append_role(out, delta.choice);
  if (content || (ids && !finishes)) {
    open(out, delta.choice);
    out += ",\"delta\":{";
    append_delta_members(out, delta);
    out += '}';
    append_logprobs(out, delta.logprobs);
    close(out, delta, {}, true);
  }
  if (!finishes) return;
  open(out, delta.choice);
  out += ",\"delta\":{},\"logprobs\":null";
  close(out, delta, delta.finish_reason, !content);
}

void StreamRenderer::append_usage(std::string& out, const Usage& usage) {
  if (!with_usage_) return;
  out += opening_;
  out += "],\"usage\":";
  append_usage_object(out, usage);
  out += "}\n\n";
}

void StreamRenderer::append_done(std::string& out) { out += "data: [DONE]\n\n"; }

void StreamRenderer::append_error(std::string& out, const Error& error) {
  out += "data: ";
  append_json_value(out, error_object(error));
  out += "\n\n";
}

WholeRenderer::WholeRenderer(AnswerHead head) : head_(std::move(head)) {}

void WholeRenderer::add(const Delta& delta) {
  const auto index = static_cast<std::size_t>(delta.choice);
  if (choices_.size() <= index) choices_.resize(index + 1);
  Choice& choice = choices_[index];
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  for (const json::value& fragment : delta.tool_calls)
    if (fragment.is_object()) join_tool_call(choice.tool_calls, fragment.get_object());
  if (!delta.logprobs.is_null()) join_logprobs(choice.logprobs, delta.logprobs);
  if (!delta.finish_reason.empty()) choice.finish_reason = delta.finish_reason;
}

void WholeRenderer::append_message(std::string& out, const Choice& choice) const {
  out += ",\"message\":{\"role\":\"assistant\",\"content\":";
  if (choice.text.empty() && !choice.tool_calls.empty())
    out += "null";
  else
    append_json_string(out, choice.text);
  if (!choice.reasoning.empty()) {
    out += ",\"reasoning_content\":";
    append_json_string(out, choice.reasoning);
  }
  out += ",\"refusal\":null";
  if (!choice.tool_calls.empty()) {
    out += ",\"tool_calls\":";
    append_json_value(out, choice.tool_calls);
  }
  out += '}';
}

std::string WholeRenderer::render(const Usage& usage) const {
  const bool chat = head_.surface == Surface::kChat;
  std::string out = opening(head_, chat ? "chat.completion" : "text_completion");
  for (std::size_t k = 0; k < choices_.size(); ++k) {
    if (k != 0) out += ',';
    out += "{\"index\":";
    append_json_integer(out, static_cast<std::int64_t>(k));
    if (chat) {
      append_message(out, choices_[k]);
    } else {
      out += ",\"text\":";
      append_json_string(out, choices_[k].text);
    }
    append_logprobs(out, choices_[k].logprobs);
    append_finish_reason(out, choices_[k].finish_reason);
    out += '}';
  }
  out += "],\"usage\":";
  append_usage_object(out, usage);
  out += '}';
  return out;
}

}  // namespace mlxs::api
