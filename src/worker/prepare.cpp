#include "worker/prepare.h"

#include "api/field_check.h"
#include "api/json_text.h"
#include "api/request.h"
#include "worker/counted.h"
#include "worker/encode.h"
#include "worker/sampling.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <limits>
#include <string_view>
#include <utility>
#include <variant>

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
Result<void> check_ids(const Codec::TokenIds& ids, int vocab_size) {
  for (std::size_t k = 0; k < ids.size(); ++k)
    if (ids[k] >= vocab_size)
      return api::invalid_value(fmt::format("prompt[{}]", k),
                                fmt::format("a token id below {}", vocab_size),
                                fmt::format("{}", ids[k]));
  return {};
}

asio::awaitable<Result<Codec::TokenIds>> prompt_ids(Context& context, api::NativeRequest& request) {
  if (request.surface == api::Surface::kChat)
    co_return co_await encode_chat(context,
                                   std::move(request.messages_json),
                                   std::move(request.tools_json),
                                   std::move(request.template_arguments_json));
  if (const auto* ids = std::get_if<Codec::TokenIds>(&request.prompt)) co_return *ids;
  co_return co_await encode_text(context, std::get<std::string>(request.prompt), true);
}

Result<std::string> echo_of(Context& context, const api::NativeRequest& request) {
  if (!request.echo) return std::string{};
  if (const auto* text = std::get_if<std::string>(&request.prompt)) return *text;
  return context.model.codec().decode(std::get<Codec::TokenIds>(request.prompt));
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
  auto ids = co_await prompt_ids(context, *native);
  if (!ids) co_return std::move(ids).error();
  if (ids->empty())
    co_return api::invalid_value(surface == api::Surface::kChat ? "messages" : "prompt",
                                 "at least one token",
                                 "an empty prompt");
  auto known = check_ids(*ids, context.model.engine().info().vocab_size);
  if (!known) co_return std::move(known).error();
  auto sampling = co_await sampling_of(context, *native);
  if (!sampling) co_return std::move(sampling).error();
  auto echo = echo_of(context, *native);
  if (!echo) co_return std::move(echo).error();

  Job job;
  job.surface = surface;
  job.model = std::move(native->model);
  job.stream = native->stream;
  job.include_usage = native->include_usage;
  job.want_token_ids = native->want_token_ids;
  job.echo = std::move(*echo);
  job.generation.prompt = std::move(*ids);
  job.generation.sampling = std::move(*sampling);
  job.generation.completion_tokens_max =
      native->completion_tokens_max.value_or(std::numeric_limits<int>::max());
  job.generation.stop = std::move(native->stop);
  job.generation.stop_tokens = std::move(native->stop_token_ids);
  job.generation.min_tokens = native->min_tokens;
  job.generation.ignore_end_tokens = native->ignore_eos;
  job.generation.deadline = *deadline;
  co_return job;
}

}  // namespace mlxs::worker
