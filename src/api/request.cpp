#include "api/request.h"

#include "api/field_check.h"
#include "api/messages.h"
#include "api/schema.h"

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace mlxs::api {
namespace {

namespace json = boost::json;

const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

constexpr std::size_t kChoicesMax = 128;  // the largest `n` that OpenAI documents

Error malformed(std::string_view why) {
  return fail(ErrorCode::kInvalidRequest, fmt::format("The body is not valid JSON: {}.", why));
}

/// The checks of the table for one field; nothing when it is absent and may be.
Result<void> check_present(const json::object& body, const Field& field) {
  if (const json::value* value = member(body, field.name)) return check_field(field, *value);
  if (!field.required) return {};
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("Missing required parameter: '{}'.", field.name),
              std::string{field.name});
}

std::optional<float> number(const json::object& body, std::string_view name) {
  const json::value* value = member(body, name);
  if (value == nullptr) return std::nullopt;
  return static_cast<float>(value->to_number<double>());
}

std::optional<int> integer(const json::object& body, std::string_view name) {
  const json::value* value = member(body, name);
  if (value == nullptr) return std::nullopt;
  return static_cast<int>(as_integer(*value).value());
}

bool flag(const json::object& body, std::string_view name) {
  const json::value* value = member(body, name);
  return value != nullptr && value->get_bool();
}

/// Of a list of strings.
std::vector<std::string> strings(const json::value& list) {
  std::vector<std::string> all;
  for (const json::value& entry : list.get_array()) all.emplace_back(entry.get_string());
  return all;
}

std::vector<std::string> stop_strings(const json::value* value) {
  if (value == nullptr) return {};
  if (value->is_string()) return {std::string{value->get_string()}};
  return strings(*value);
}

/// Of a list of token ids.
std::vector<std::int32_t> token_ids(const json::value& list) {
  std::vector<std::int32_t> ids;
  ids.reserve(list.get_array().size());
  for (const json::value& id : list.get_array())
    ids.push_back(static_cast<std::int32_t>(as_integer(id).value()));
  return ids;
}

Prompt prompt(const json::value& value) {
  if (value.is_string()) return std::string{value.get_string()};
  return token_ids(value);
}

std::vector<Prompt> prompts(const json::value& given) {
  if (given.is_string() || given.get_array()[0].is_number()) return {prompt(given)};
  std::vector<Prompt> all;
  for (const json::value& one : given.get_array()) all.push_back(prompt(one));
  return all;
}

/// How many answers, and what is told of their tokens.
Result<void> read_choices(const json::object& body, NativeRequest& request) {
  request.n = integer(body, "n").value_or(1);
  request.best_of = request.n;
  if (request.surface == Surface::kChat) {
    const auto top = integer(body, "top_logprobs");
    if (flag(body, "logprobs"))
      request.top_logprobs = top.value_or(0);
    else if (top.value_or(0) > 0)
      return fail(ErrorCode::kInvalidRequest,
                  "Invalid 'top_logprobs': only allowed when 'logprobs' is true.",
                  "top_logprobs");
    return {};
  }
  request.top_logprobs = integer(body, "logprobs");
  request.best_of = integer(body, "best_of").value_or(request.n);
  if (request.best_of < request.n)
    return invalid_value(
        "best_of", fmt::format("at least n ({})", request.n), fmt::format("{}", request.best_of));
  return {};
}

/// Ids to resume from are of one answer.
Result<void> check_resumable(const NativeRequest& request) {
  if (request.resume.empty() || (request.best_of == 1 && request.prompts.size() <= 1)) return {};
  return fail(ErrorCode::kInvalidRequest,
              "Invalid 'mlxs.resume': only a request with one choice can be resumed.",
              "mlxs.resume");
}

/// A key of logit_bias, which is known to be one.
std::int32_t token_of(std::string_view key) {
  std::int32_t id = 0;
  std::from_chars(key.data(), key.data() + key.size(), id);
  return id;
}

void read_extension(const json::object& body, NativeRequest& request) {
  const json::value* extension = member(body, "mlxs");
  if (extension == nullptr) return;
  request.want_token_ids = flag(extension->get_object(), "token_ids");
  if (const json::value* seed = member(extension->get_object(), "seed"))
    request.drawn_seed = as_seed(*seed);
  const json::value* resume = member(extension->get_object(), "resume");
  if (resume == nullptr) return;
  request.resume = token_ids(resume->at("token_ids"));
  if (const json::value* hash = member(resume->get_object(), "text_hash"))
    request.resume_text_hash = hash->get_string();
}

void read_sampling(const json::object& body, NativeRequest& request) {
  request.temperature = number(body, "temperature");
  request.top_p = number(body, "top_p");
  request.top_k = integer(body, "top_k");
  if (request.top_k) request.top_k = std::max(0, *request.top_k);
  request.min_p = number(body, "min_p");
  if (const json::value* seed = member(body, "seed")) request.seed = as_seed(*seed);
  request.completion_tokens_max = integer(body, "max_completion_tokens");
  if (!request.completion_tokens_max) request.completion_tokens_max = integer(body, "max_tokens");
  request.stop = stop_strings(member(body, "stop"));
  if (const json::value* ids = member(body, "stop_token_ids"))
    request.stop_token_ids = token_ids(*ids);
  request.min_tokens = integer(body, "min_tokens").value_or(0);
  request.ignore_eos = flag(body, "ignore_eos");
}

/// "auto", "default" and "scale", which is about what was bought, are served in turn.
Tier tier_of(const json::object& body) {
  const json::value* given = member(body, "service_tier");
  if (given == nullptr) return Tier::kDefault;
  const std::string_view name = given->get_string();
  if (name == "flex") return Tier::kFlex;
  return name == "priority" || name == "fast" ? Tier::kPriority : Tier::kDefault;
}

/// What looks at the tokens so far.
void read_penalties(const json::object& body, NativeRequest& request) {
  request.frequency_penalty = number(body, "frequency_penalty");
  request.presence_penalty = number(body, "presence_penalty");
  request.repetition_penalty = number(body, "repetition_penalty");
  if (const json::value* biases = member(body, "logit_bias"))
    for (const auto& [token, bias] : biases->get_object())
      request.logit_bias.emplace_back(token_of(token),
                                      static_cast<float>(bias.to_number<double>()));
  request.xtc_probability = number(body, "xtc_probability");
  request.xtc_threshold = number(body, "xtc_threshold");
  request.dry = {.multiplier = number(body, "dry_multiplier"),
                 .base = number(body, "dry_base"),
                 .allowed_length = integer(body, "dry_allowed_length"),
                 .penalty_last_n = integer(body, "dry_penalty_last_n"),
                 .sequence_breakers = std::nullopt};
  if (const json::value* breakers = member(body, "dry_sequence_breakers"))
    request.dry.sequence_breakers = strings(*breakers);
}

}  // namespace

Result<Envelope> parse_envelope(Surface surface, std::string_view json_text, int depth_max) {
  json::parse_options options;
  options.max_depth = static_cast<std::size_t>(depth_max);
  boost::system::error_code failure;
  // The tree is built once, read and dropped whole, so its nodes need no freeing of their own.
  auto memory = json::make_shared_resource<json::monotonic_resource>(json_text.size() + 1024);
  json::value parsed = json::parse(json_text, failure, std::move(memory), options);
  if (failure) return malformed(failure.message());
  if (!parsed.is_object()) return malformed("expected an object, got " + describe(parsed));

  const json::object& body = parsed.get_object();
  for (const std::string_view name : {"model", "stream", "stream_options"})
    MLXS_TRY(check_present(body, *find_field(surface, name)));
  const json::value* options_given = member(body, "stream_options");
  const bool include_usage =
      options_given != nullptr && flag(options_given->get_object(), "include_usage");
  std::string model{body.at("model").get_string()};
  const bool stream = flag(body, "stream");
  return Envelope{surface, std::move(parsed.get_object()), std::move(model), stream, include_usage};
}

Result<NativeRequest> parse_native(const Envelope& envelope) {
  const json::object& body = envelope.body;
  for (const Field& field : fields(envelope.surface)) MLXS_TRY(check_present(body, field));
  if (!envelope.stream && member(body, "stream_options") != nullptr)
    return fail(ErrorCode::kInvalidRequest,
                "Invalid 'stream_options': only allowed when 'stream' is true.",
                "stream_options");

  NativeRequest request;
  request.surface = envelope.surface;
  request.model = envelope.model;
  request.stream = envelope.stream;
  request.include_usage = envelope.include_usage;
  read_sampling(body, request);
  read_penalties(body, request);
  request.tier = tier_of(body);
  MLXS_TRY(read_choices(body, request));
  if (request.completion_tokens_max && request.min_tokens > *request.completion_tokens_max)
    return invalid_value("min_tokens",
                         fmt::format("at most max_tokens ({})", *request.completion_tokens_max),
                         fmt::format("{}", request.min_tokens));
  read_extension(body, request);
  if (envelope.surface == Surface::kCompletions) {
    request.prompts = prompts(body.at("prompt"));
    request.echo = flag(body, "echo");
    if (request.completion_tokens_max == 0 && !request.echo)
      return invalid_value("max_tokens", "at least 1 without echo", "0");
    if (const json::value* suffix = member(body, "suffix")) request.suffix = suffix->get_string();
    MLXS_TRY(check_resumable(request));
    if (request.prompts.size() * static_cast<std::size_t>(request.best_of) > kChoicesMax)
      return fail(
          ErrorCode::kInvalidRequest,
          fmt::format("{} prompts with {} answers each are more than the {} choices that one "
                      "request may have.",
                      request.prompts.size(),
                      request.best_of,
                      kChoicesMax),
          "n");
    return request;
  }
  MLXS_TRY(check_resumable(request));
  auto messages = template_messages(body.at("messages").get_array());
  if (!messages) return std::move(messages).error();
  request.messages_json = std::move(*messages);
  if (const json::value* arguments = member(body, "chat_template_kwargs"))
    request.template_arguments_json = json::serialize(*arguments);
  return request;
}

std::vector<std::string> undocumented_fields(const Envelope& envelope) {
  std::vector<std::string> names;
  for (const auto& [key, value] : envelope.body)
    if (find_field(envelope.surface, key) == nullptr) names.emplace_back(key);
  return names;
}

}  // namespace mlxs::api
