#include "api/field_check.h"
#include "api/messages.h"
#include "worker/encode.h"
#include "worker/endpoints.h"
#include "worker/refusal.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <limits>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr std::size_t kDepthMax = 64;

Result<json::object> parse_object(std::string_view text) {
  json::parse_options options;
  options.max_depth = kDepthMax;
  boost::system::error_code failure;
  json::value value = json::parse(text, failure, {}, options);
  if (failure || !value.is_object())
    return fail(ErrorCode::kInvalidRequest, "The body is not a valid JSON object.");
  return std::move(value.get_object());
}

const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

/// Either spelling of the flag; true unless said otherwise, as the completions endpoint has it.
Result<bool> add_special(const json::object& body) {
  for (const std::string_view name : {"add_special", "add_special_tokens"}) {
    const json::value* value = member(body, name);
    if (value == nullptr) continue;
    if (!value->is_bool()) return api::invalid_value(name, "a boolean", api::describe(*value));
    return value->get_bool();
  }
  return true;
}

asio::awaitable<Result<Codec::TokenIds>> tokens_of(Context& context, json::object body) {
  if (const json::value* messages = member(body, "messages")) {
    if (!messages->is_array())
      co_return api::invalid_value("messages", "a list of messages", api::describe(*messages));
    auto checked = api::template_messages(messages->get_array());
    if (!checked) co_return std::move(checked).error();
    co_return co_await encode_chat(context, std::move(*checked), {}, {});
  }
  const auto special = add_special(body);
  if (!special) co_return special.error();
  for (const std::string_view name : {"prompt", "content"}) {
    const json::value* text = member(body, name);
    if (text == nullptr) continue;
    if (!text->is_string()) co_return api::invalid_value(name, "a string", api::describe(*text));
    co_return co_await encode_text(context, std::string{text->get_string()}, *special);
  }
  co_return fail(ErrorCode::kInvalidRequest, "Expected one of prompt, content and messages.");
}

Result<Codec::TokenIds> given_tokens(const json::object& body, int vocab_size) {
  const json::value* list = member(body, "tokens");
  if (list == nullptr || !list->is_array())
    return api::invalid_value(
        "tokens", "a list of token ids", list == nullptr ? "nothing" : api::describe(*list));
  Codec::TokenIds ids;
  for (const json::value& value : list->get_array()) {
    const auto id = api::as_integer(value);
    if (!id || *id < 0 || *id >= vocab_size)
      return api::invalid_value(fmt::format("tokens[{}]", ids.size()),
                                fmt::format("a token id below {}", vocab_size),
                                api::describe(value));
    ids.push_back(static_cast<engine::TokenId>(*id));
  }
  return ids;
}

Result<std::string> text_of(Context& context, std::string_view body_text) {
  const auto body = parse_object(body_text);
  if (!body) return body.error();
  const auto ids = given_tokens(*body, context.model.engine().info().vocab_size);
  if (!ids) return ids.error();
  return context.model.codec().decode(*ids);
}

}  // namespace

asio::awaitable<void> tokenize(Context& context, Reply& reply) {
  if (auto refused = refusal(context)) {
    co_await reply.fail(std::move(*refused));
    co_return;
  }
  auto body = parse_object(reply.request().body);
  if (!body) {
    co_await reply.fail(std::move(body).error());
    co_return;
  }
  auto tokens = co_await tokens_of(context, std::move(*body));
  if (!tokens) {
    co_await reply.fail(std::move(tokens).error());
    co_return;
  }
  json::object answer;
  answer["tokens"] = json::array(tokens->begin(), tokens->end());
  answer["count"] = tokens->size();
  answer["max_model_len"] = context.model.engine().info().context_tokens_max;
  co_await reply.send_json(answer);
}

asio::awaitable<void> detokenize(Context& context, Reply& reply) {
  if (auto refused = refusal(context)) {
    co_await reply.fail(std::move(*refused));
    co_return;
  }
  auto text = text_of(context, reply.request().body);
  if (!text) {
    co_await reply.fail(std::move(text).error());
    co_return;
  }
  json::object answer;
  answer["content"] = *text;
  answer["prompt"] = *text;
  co_await reply.send_json(answer);
}

}  // namespace mlxs::worker
