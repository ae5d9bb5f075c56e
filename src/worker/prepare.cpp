#include "worker/prepare.h"

#include "api/field_check.h"
#include "api/json_text.h"
#include "api/request.h"
#include "base/hash.h"
#include "engine/answer.h"
#include "worker/counted.h"
#include "worker/encode.h"
#include "worker/sampling.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kUndocumentedSeenMax = 100;
constexpr std::size_t kUndocumentedBytesMax = 64;

/// Fields that nobody documents are ignored, and logged once each.
void note_undocumented(Context& context, const api::Envelope& envelope) {
  for (const std::string& name : api::undocumented_fields(envelope)) {
    if (context.undocumented_seen.size() >= kUndocumentedSeenMax) return;
    if (name.size() > kUndocumentedBytesMax) continue;
    if (!context.undocumented_seen.insert(name).second) continue;
    std::string quoted;
    api::append_json_string(quoted, name);  // A client chose it, so it may hold line breaks.
    spdlog::info("ignoring the request field {}, which nobody documents", quoted);
  }
}

Result<Deadline> deadline_of(const http::Request& request) {
  constexpr std::string_view kName = "x-request-timeout-ms";
  const auto given = request.headers.get(kName);
  if (!given) return Deadline{};
  std::int64_t timeout_ms = -1;
  const char* end = given->data() + given->size();
  const auto parsed = std::from_chars(given->data(), end, timeout_ms);
  if (parsed.ec != std::errc{} || parsed.ptr != end || timeout_ms < 0)
    return api::invalid_value(kName, "milliseconds as a whole number", *given);
  return Deadline::after(Milliseconds{timeout_ms}, request.arrived_at);
}

/// The model has logits for ids below `vocab_size` only; a tokenizer may know more.
Result<void> check_ids(std::string_view param, const Codec::TokenIds& ids, int vocab_size) {
  for (std::size_t k = 0; k < ids.size(); ++k)
    if (ids[k] >= vocab_size)
      return api::invalid_value(fmt::format("{}[{}]", param, k),
                                fmt::format("a token id below {}", vocab_size),
                                fmt::format("{}", ids[k]));
  return {};
}

/// A text with a gap that the answer fills: what is before it, what is after it, then the mark at
/// which the model begins.
asio::awaitable<Result<Codec::TokenIds>> gap_ids(Context& context,
                                                 api::Prompt before,
                                                 std::string after) {
  const auto marks = context.model.codec().fill_tokens();
  if (!marks)
    co_return fail(
        ErrorCode::kUnsupportedParameter,
        "Unsupported parameter: 'suffix' cannot be honoured by this model, which was not "
        "made to fill gaps; leave it out.",
        "suffix");
  auto ids = co_await encode_text(context, {}, true);  // what begins every text
  if (!ids) co_return std::move(ids).error();
  ids->push_back(marks->prefix);
  Result<Codec::TokenIds> head = Codec::TokenIds{};
  if (auto* given = std::get_if<Codec::TokenIds>(&before))
    head = std::move(*given);
  else
    head = co_await encode_text(context, std::get<std::string>(std::move(before)), false);
  if (!head) co_return std::move(head).error();
  ids->insert(ids->end(), head->begin(), head->end());
  ids->push_back(marks->suffix);
  const auto tail = co_await encode_text(context, std::move(after), false);
  if (!tail) co_return tail.error();
  ids->insert(ids->end(), tail->begin(), tail->end());
  ids->push_back(marks->middle);
  co_return ids;
}

asio::awaitable<Result<Codec::TokenIds>> completion_ids(Context& context,
                                                        api::Prompt prompt,
                                                        std::string suffix) {
  if (!suffix.empty()) co_return co_await gap_ids(context, std::move(prompt), std::move(suffix));
  if (auto* ids = std::get_if<Codec::TokenIds>(&prompt)) co_return std::move(*ids);
  co_return co_await encode_text(context, std::get<std::string>(std::move(prompt)), true);
}

engine::Priority priority_of(api::Tier tier) {
  switch (tier) {
    case api::Tier::kFlex:
      return engine::Priority::kLow;
    case api::Tier::kPriority:
      return engine::Priority::kHigh;
    case api::Tier::kDefault:
      break;
  }
  return engine::Priority::kNormal;
}

/// Of every prompt of the request; none is empty.
asio::awaitable<Result<std::vector<Codec::TokenIds>>> prompt_ids(Context& context,
                                                                 api::NativeRequest& request) {
  const bool chat = request.surface == api::Surface::kChat;
  const std::size_t prompts = chat ? 1 : request.prompts.size();
  std::vector<Codec::TokenIds> all;
  for (std::size_t p = 0; p < prompts; ++p) {
    Result<Codec::TokenIds> ids = Codec::TokenIds{};
    if (chat)
      ids = co_await encode_chat(context,
                                 std::move(request.messages_json),
                                 std::move(request.tools_json),
                                 std::move(request.template_arguments_json));
    else
      ids = co_await completion_ids(context, request.prompts[p], request.suffix);
    if (!ids) co_return std::move(ids).error();
    if (ids->empty())
      co_return api::invalid_value(
          chat ? "messages" : "prompt", "at least one token", "an empty prompt");
    auto known = check_ids("prompt", *ids, context.model.engine().info().vocab_size);
    if (!known) co_return std::move(known).error();
    all.push_back(std::move(*ids));
  }
  co_return all;
}

Result<std::string> text_of(Context& context, const api::Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  return context.model.codec().decode(std::get<Codec::TokenIds>(prompt));
}

/// Every choice is a sequence, and all of them run together.
Result<void> check_choices(Context& context, const api::NativeRequest& request) {
  const std::size_t prompts = std::max<std::size_t>(1, request.prompts.size());
  const std::size_t choices = prompts * static_cast<std::size_t>(request.best_of);
  const auto choices_max = static_cast<std::size_t>(context.model.limits().sequences_max);
  if (choices <= choices_max) return {};
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("The request has {} choices, but this server generates at most {} at a "
                          "time; ask for fewer.",
                          choices,
                          choices_max),
              request.best_of > request.n ? "best_of" : "n");
}

/// The text that the tokens to resume from have given out, which the client must have got.
Result<std::string> resumed_text(Context& context,
                                 const api::NativeRequest& request,
                                 const engine::GenerationRequest& wanted) {
  engine::Answer answer{engine::SequenceId{},
                        0,
                        {.end_tokens = {},
                         .stop = wanted.stop,
                         .completion_tokens_max = std::numeric_limits<int>::max(),
                         .min_tokens = wanted.min_tokens},
                        context.model.codec().detokenizer()};
  std::string text;
  for (const engine::TokenId token : request.resume) {
    engine::GenerationEvent event = answer.advance(token);
    if (event.error) return std::move(*event.error);
    text += event.text;
    if (event.finish)
      return fail(ErrorCode::kInvalidRequest,
                  "The tokens to resume from end the answer already.",
                  "mlxs.resume");
  }
  if (!request.resume_text_hash || to_hex(sha256(text)) == *request.resume_text_hash) return text;
  return fail(ErrorCode::kInvalidRequest,
              "The tokens to resume from spell another text than was sent.",
              "mlxs.resume.text_hash");
}

Result<api::NativeRequest> parsed(Context& context,
                                  const http::Request& request,
                                  api::Surface surface) {
  const auto envelope = api::parse_envelope(surface, request.body);
  if (!envelope) return envelope.error();
  if (envelope->model != context.options.id)
    return fail(ErrorCode::kModelNotFound,
                fmt::format("The model '{}' does not exist.", envelope->model),
                "model");
  note_undocumented(context, *envelope);
  return api::parse_native(*envelope);
}

}  // namespace

asio::awaitable<Result<Job>> prepare(Context& context,
                                     const http::Request& request,
                                     api::Surface surface) {
  const Counted counted{context.preparing};
  const auto deadline = deadline_of(request);
  if (!deadline) co_return deadline.error();
  auto native = parsed(context, request, surface);
  if (!native) co_return std::move(native).error();
  auto allowed = check_choices(context, *native);
  if (!allowed) co_return std::move(allowed).error();
  auto sampling = co_await sampling_of(context, *native);
  if (!sampling) co_return std::move(sampling).error();

  Job job;
  job.surface = surface;
  job.model = native->model;
  job.stream = native->stream;
  job.include_usage = native->include_usage;
  job.want_token_ids = native->want_token_ids;
  job.want_logprobs = native->top_logprobs.has_value();
  job.n = static_cast<std::size_t>(native->n);
  job.best_of = static_cast<std::size_t>(native->best_of);
  if (native->echo)
    for (const api::Prompt& prompt : native->prompts) {
      auto echo = text_of(context, prompt);
      if (!echo) co_return std::move(echo).error();
      job.echoes.push_back(std::move(*echo));
    }
  auto prompts = co_await prompt_ids(context, *native);
  if (!prompts) co_return std::move(prompts).error();
  // Marks of a gap are no part of the text that is echoed, so they have no place in its tokens.
  const bool prompt_logprobs = native->echo && job.want_logprobs && native->suffix.empty();
  if (prompt_logprobs) job.echo_tokens = *prompts;

  engine::GenerationRequest wanted;
  wanted.sampling = std::move(*sampling);
  job.echo_only = native->completion_tokens_max == 0;
  // A prompt is looked at by drawing what comes behind it, which nobody sees then.
  wanted.completion_tokens_max =
      std::max(1, native->completion_tokens_max.value_or(std::numeric_limits<int>::max()));
  wanted.stop = std::move(native->stop);
  wanted.stop_tokens = std::move(native->stop_token_ids);
  wanted.min_tokens = native->min_tokens;
  wanted.ignore_end_tokens = native->ignore_eos;
  wanted.deadline = *deadline;
  wanted.priority = priority_of(native->tier);
  wanted.top_logprobs = native->top_logprobs;
  // The best are those with the best logprobs.
  if (job.best_of > job.n && !wanted.top_logprobs) wanted.top_logprobs = 0;
  wanted.prompt_logprobs = prompt_logprobs;
  job.prompts = prompts->size();
  if (!native->resume.empty()) {
    auto known = check_ids("mlxs.resume", native->resume, context.model.engine().info().vocab_size);
    if (!known) co_return std::move(known).error();
    auto text = resumed_text(context, *native, wanted);
    if (!text) co_return std::move(text).error();
    job.resumes = true;
    job.resumed_text = std::move(*text);
    wanted.resume = std::move(native->resume);
  }
  for (Codec::TokenIds& prompt : *prompts) {
    wanted.prompt = std::move(prompt);
    job.requests.push_back(wanted);
  }
  co_return job;
}

}  // namespace mlxs::worker
