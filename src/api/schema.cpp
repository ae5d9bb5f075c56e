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

// Sources: OpenAI's API reference as its Python client 3.54 spells it; top_k, min_p and
// chat_template_kwargs as vLLM, SGLang and llama.cpp spell them; `mlxs` is ours.
constexpr std::array kBothSurfaces{
    Field{.name = "frequency_penalty",
          .type = kNumber,
          .support = kOnlyDefault,
          .min = -2,
          .max = 2,
          .accepted_json = "[0]"},
    Field{
        .name = "logit_bias", .type = kLogitBias, .support = kOnlyDefault, .accepted_json = "[{}]"},
    Field{.name = "max_tokens", .type = kInteger, .min = 1, .max = kIntMax},
    Field{.name = "min_p", .type = kNumber, .min = 0, .max = 1},
    Field{.name = "mlxs", .type = kExtension},
    Field{.name = "model", .type = kString, .required = true},
    Field{.name = "n",
          .type = kInteger,
          .support = kOnlyDefault,
          .min = 1,
          .max = 128,
          .accepted_json = "[1]"},
    Field{.name = "presence_penalty",
          .type = kNumber,
          .support = kOnlyDefault,
          .min = -2,
          .max = 2,
          .accepted_json = "[0]"},
    Field{.name = "seed", .type = kSeed},
    Field{.name = "stop", .type = kStop},
    Field{.name = "stream", .type = kBoolean},
    Field{.name = "stream_options", .type = kStreamOptions},
    Field{.name = "temperature", .type = kNumber, .min = 0, .max = 2},
    Field{.name = "top_k", .type = kInteger, .min = -1, .max = kIntMax},  // -1 and 0: off
    Field{.name = "top_p", .type = kNumber, .min = 0, .max = 1, .min_excluded = true},
    Field{.name = "user", .type = kString, .support = kNoEffect},
};

constexpr std::array kChatOnly{
    Field{.name = "audio", .type = kObject, .support = kOnlyDefault},
    Field{.name = "chat_template_kwargs", .type = kObject},
    Field{.name = "function_call",
          .type = kToolChoice,
          .support = kOnlyDefault,
          .accepted_json = R"(["none","auto"])"},
    Field{.name = "functions", .type = kArray, .support = kOnlyDefault, .accepted_json = "[[]]"},
    Field{
        .name = "logprobs", .type = kBoolean, .support = kOnlyDefault, .accepted_json = "[false]"},
    Field{.name = "max_completion_tokens", .type = kInteger, .min = 1, .max = kIntMax},
    Field{.name = "messages", .type = kMessages, .required = true},
    Field{.name = "metadata", .type = kMetadata, .support = kNoEffect},
    Field{.name = "modalities",
          .type = kArray,
          .support = kOnlyDefault,
          .accepted_json = R"([["text"]])"},
    Field{.name = "moderation", .type = kObject, .support = kOnlyDefault},
    // Without tools, which are refused, there is nothing to call in parallel.
    Field{.name = "parallel_tool_calls", .type = kBoolean, .support = kNoEffect},
    Field{.name = "prediction", .type = kObject, .support = kOnlyDefault},
    Field{.name = "prompt_cache_key", .type = kString, .support = kNoEffect},
    Field{.name = "prompt_cache_options", .type = kObject, .support = kNoEffect},
    Field{.name = "prompt_cache_retention",
          .type = kString,
          .support = kNoEffect,
          .choices = "in_memory|24h"},
    Field{.name = "reasoning_effort",
          .type = kString,
          .support = kOnlyDefault,
          .choices = "none|minimal|low|medium|high|xhigh|max"},
    Field{.name = "response_format",
          .type = kResponseFormat,
          .support = kOnlyDefault,
          .accepted_json = R"([{"type":"text"}])"},
    Field{.name = "safety_identifier", .type = kString, .support = kNoEffect, .max = 128},
    Field{.name = "service_tier",
          .type = kString,
          .support = kNoEffect,
          .choices = "auto|default|flex|scale|priority|fast"},
    Field{.name = "store", .type = kBoolean, .support = kNoEffect},
    Field{.name = "tool_choice",
          .type = kToolChoice,
          .support = kOnlyDefault,
          .accepted_json = R"(["none","auto"])"},
    Field{.name = "tools", .type = kTools, .support = kOnlyDefault, .accepted_json = "[[]]"},
    Field{.name = "top_logprobs",
          .type = kInteger,
          .support = kOnlyDefault,
          .min = 0,
          .max = 20,
          .accepted_json = "[0]"},
    Field{.name = "verbosity",
          .type = kString,
          .support = kOnlyDefault,
          .choices = "low|medium|high",
          .accepted_json = R"(["medium"])"},
    Field{.name = "web_search_options", .type = kObject, .support = kOnlyDefault},
};

constexpr std::array kCompletionsOnly{
    Field{.name = "best_of",
          .type = kInteger,
          .support = kOnlyDefault,
          .min = 1,
          .max = 20,
          .accepted_json = "[1]"},
    Field{.name = "echo", .type = kBoolean},
    // 0 already asks for the drawn token's probability, so only null is the default.
    Field{.name = "logprobs", .type = kInteger, .support = kOnlyDefault, .min = 0, .max = 5},
    Field{.name = "prompt", .type = kPrompt, .required = true},
    Field{.name = "suffix", .type = kString, .support = kOnlyDefault, .accepted_json = R"([""])"},
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
