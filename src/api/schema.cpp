#include "api/schema.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

namespace mlxs::api {
namespace {

using enum FieldType;
using enum Support;

constexpr double kIntMax = std::numeric_limits<int>::max();
constexpr double kPenaltyMax = 100;  // far beyond use, and finite in what is computed from it

// What is cosmetic to sharing: `stream` and `stream_options` shape the delivery, `user`, `metadata`
// and `store` are the caller's own bookkeeping, `service_tier` is about price and speed. All else
// counts, also what we ignore, since a foreign server may not.
//
// Sources: OpenAI's API reference as its Python client 3.54 spells it; top_k, min_p,
// repetition_penalty, min_tokens, ignore_eos, stop_token_ids and chat_template_kwargs as vLLM
// spells them, xtc_* and dry_* as llama.cpp does; `mlxs` is ours.
constexpr std::array kBothSurfaces{
    Field{.name = "dry_allowed_length",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .default_json = "2",
          .min = 0,
          .max = kIntMax},
    Field{.name = "dry_base",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "1.75",
          .min = 0,
          .max = kPenaltyMax},
    Field{.name = "dry_multiplier",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = 0,
          .max = kPenaltyMax},
    Field{.name = "dry_penalty_last_n",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .default_json = "-1",
          .min = -1,
          .max = kIntMax},
    Field{.name = "dry_sequence_breakers", .type = kStrings, .sharing = Sharing::kValue, .max = 64},
    Field{.name = "frequency_penalty",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = -2,
          .max = 2},
    Field{.name = "ignore_eos",
          .type = kBoolean,
          .sharing = Sharing::kValue,
          .default_json = "false"},
    Field{
        .name = "logit_bias", .type = kLogitBias, .sharing = Sharing::kValue, .default_json = "{}"},
    Field{.name = "min_p", .type = kNumber, .sharing = Sharing::kValue, .min = 0, .max = 1},
    Field{.name = "min_tokens",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = 0,
          .max = kIntMax},
    Field{.name = "mlxs", .type = kExtension, .sharing = Sharing::kExtension},
    Field{.name = "model", .type = kString, .sharing = Sharing::kValue, .required = true},
    Field{.name = "n",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .default_json = "1",
          .min = 1,
          .max = 128},
    Field{.name = "presence_penalty",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = -2,
          .max = 2},
    Field{.name = "repetition_penalty",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .min = 0,
          .max = kPenaltyMax,
          .min_excluded = true},
    Field{.name = "seed", .type = kSeed, .sharing = Sharing::kValue},
    Field{.name = "stop", .type = kStop, .sharing = Sharing::kStop, .default_json = "[]"},
    Field{.name = "stop_token_ids",
          .type = kTokenIds,
          .sharing = Sharing::kValue,
          .default_json = "[]",
          .max = 64},
    Field{.name = "stream", .type = kBoolean, .sharing = Sharing::kCosmetic},
    Field{.name = "stream_options", .type = kStreamOptions, .sharing = Sharing::kCosmetic},
    Field{.name = "temperature", .type = kNumber, .sharing = Sharing::kValue, .min = 0, .max = 2},
    Field{.name = "top_k",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .min = -1,
          .max = kIntMax},  // -1 and 0: off
    Field{.name = "top_p",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .min = 0,
          .max = 1,
          .min_excluded = true},
    Field{.name = "user", .type = kString, .sharing = Sharing::kCosmetic, .support = kNoEffect},
    Field{.name = "xtc_probability",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = 0,
          .max = 1},
    Field{.name = "xtc_threshold",
          .type = kNumber,
          .sharing = Sharing::kValue,
          .default_json = "0.1",
          .min = 0,
          .max = 1},
};

constexpr std::array kChatOnly{
    Field{.name = "audio", .type = kObject, .sharing = Sharing::kVerbatim, .support = kOnlyDefault},
    Field{.name = "chat_template_kwargs", .type = kObject, .sharing = Sharing::kVerbatim},
    Field{.name = "function_call",
          .type = kToolChoice,
          .sharing = Sharing::kVerbatim,
          .support = kOnlyDefault,
          .accepted_json = R"(["none","auto"])"},
    Field{.name = "functions",
          .type = kArray,
          .sharing = Sharing::kVerbatim,
          .default_json = "[]",
          .support = kOnlyDefault,
          .accepted_json = "[[]]"},
    Field{
        .name = "logprobs", .type = kBoolean, .sharing = Sharing::kValue, .default_json = "false"},
    Field{.name = "max_completion_tokens",
          .type = kInteger,
          .sharing = Sharing::kLength,
          .min = 1,
          .max = kIntMax},
    Field{.name = "max_tokens",
          .type = kInteger,
          .sharing = Sharing::kLength,
          .min = 1,
          .max = kIntMax},
    Field{.name = "messages", .type = kMessages, .sharing = Sharing::kMessages, .required = true},
    Field{
        .name = "metadata", .type = kMetadata, .sharing = Sharing::kCosmetic, .support = kNoEffect},
    Field{.name = "modalities",
          .type = kArray,
          .sharing = Sharing::kVerbatim,
          .default_json = R"(["text"])",
          .support = kOnlyDefault,
          .accepted_json = R"([["text"]])"},
    Field{.name = "moderation",
          .type = kObject,
          .sharing = Sharing::kVerbatim,
          .support = kOnlyDefault},
    // Without tools, which are refused, there is nothing to call in parallel.
    Field{.name = "parallel_tool_calls",
          .type = kBoolean,
          .sharing = Sharing::kValue,
          .support = kNoEffect},
    Field{.name = "prediction",
          .type = kObject,
          .sharing = Sharing::kVerbatim,
          .support = kOnlyDefault},
    Field{.name = "prompt_cache_key",
          .type = kString,
          .sharing = Sharing::kValue,
          .support = kNoEffect},
    Field{.name = "prompt_cache_options",
          .type = kObject,
          .sharing = Sharing::kVerbatim,
          .support = kNoEffect},
    Field{.name = "prompt_cache_retention",
          .type = kString,
          .sharing = Sharing::kValue,
          .support = kNoEffect,
          .choices = "in_memory|24h"},
    Field{.name = "reasoning_effort",
          .type = kString,
          .sharing = Sharing::kValue,
          .support = kOnlyDefault,
          .choices = "none|minimal|low|medium|high|xhigh|max"},
    Field{.name = "response_format",
          .type = kResponseFormat,
          .sharing = Sharing::kVerbatim,
          .default_json = R"({"type":"text"})",
          .support = kOnlyDefault,
          .accepted_json = R"([{"type":"text"}])"},
    Field{.name = "safety_identifier",
          .type = kString,
          .sharing = Sharing::kValue,
          .support = kNoEffect,
          .max = 128},
    Field{.name = "service_tier",
          .type = kString,
          .sharing = Sharing::kCosmetic,
          .support = kNoEffect,
          .choices = "auto|default|flex|scale|priority|fast"},
    Field{.name = "store", .type = kBoolean, .sharing = Sharing::kCosmetic, .support = kNoEffect},
    Field{.name = "tool_choice",
          .type = kToolChoice,
          .sharing = Sharing::kVerbatim,
          .support = kOnlyDefault,
          .accepted_json = R"(["none","auto"])"},
    Field{.name = "tools",
          .type = kTools,
          .sharing = Sharing::kVerbatim,
          .default_json = "[]",
          .support = kOnlyDefault,
          .accepted_json = "[[]]"},
    Field{.name = "top_logprobs",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .default_json = "0",
          .min = 0,
          .max = 20},
    Field{.name = "verbosity",
          .type = kString,
          .sharing = Sharing::kValue,
          .default_json = R"("medium")",
          .support = kOnlyDefault,
          .choices = "low|medium|high",
          .accepted_json = R"(["medium"])"},
    Field{.name = "web_search_options",
          .type = kObject,
          .sharing = Sharing::kVerbatim,
          .support = kOnlyDefault},
};

constexpr std::array kCompletionsOnly{
    Field{.name = "best_of",
          .type = kInteger,
          .sharing = Sharing::kValue,
          .min = 1,
          .max = 20},  // absent: as many as `n`
    Field{.name = "echo", .type = kBoolean, .sharing = Sharing::kValue, .default_json = "false"},
    // 0 already asks for the drawn token's probability, so only null is the default.
    Field{.name = "logprobs", .type = kInteger, .sharing = Sharing::kValue, .min = 0, .max = 5},
    // 0 with `echo` only: the prompt is looked at and nothing generated.
    Field{.name = "max_tokens",
          .type = kInteger,
          .sharing = Sharing::kLength,
          .min = 0,
          .max = kIntMax},
    Field{.name = "prompt", .type = kPrompt, .sharing = Sharing::kVerbatim, .required = true},
    Field{.name = "suffix", .type = kString, .sharing = Sharing::kValue, .default_json = R"("")"},
};

template <class Own>
std::vector<Field> merged(const Own& own) {
  std::vector<Field> all{kBothSurfaces.begin(), kBothSurfaces.end()};
  all.insert(all.end(), own.begin(), own.end());
  std::ranges::sort(all, {}, &Field::name);
  return all;
}

}  // namespace

std::span<const Field> fields(Surface surface) {
  static const std::vector<Field> chat = merged(kChatOnly);
  static const std::vector<Field> completions = merged(kCompletionsOnly);
  return surface == Surface::kChat ? chat : completions;
}

const Field* find_field(Surface surface, std::string_view name) {
  const auto rows = fields(surface);
  const auto found = std::ranges::lower_bound(rows, name, {}, &Field::name);
  return found != rows.end() && found->name == name ? &*found : nullptr;
}

}  // namespace mlxs::api
