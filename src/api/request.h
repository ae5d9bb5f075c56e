#pragma once

#include "api/events.h"
#include "base/result.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mlxs::api {

/// What the gateway must know of any generation request, native or foreign.
struct Envelope {
  Surface surface = Surface::kChat;
  boost::json::object body;  ///< The whole request, key order kept.
  std::string model;
  bool stream = false;
  bool include_usage = false;  ///< stream_options.include_usage
};

/// Parses `json` (depth at most `depth_max`) and checks the envelope's own fields. kInvalidRequest
/// with `param`, also for malformed JSON (no param) and duplicate-free type errors.
[[nodiscard]] Result<Envelope> parse_envelope(Surface surface,
                                              std::string_view json,
                                              int depth_max = 64);

/// What `service_tier` asks for: flex is for work that can wait, priority for what cannot.
enum class Tier { kFlex, kDefault, kPriority };

/// Text or token ids.
using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

/// llama.cpp's dry_* fields.
struct DryFields {
  std::optional<float> multiplier;
  std::optional<float> base;
  std::optional<int> allowed_length;
  std::optional<int> penalty_last_n;
  std::optional<std::vector<std::string>> sequence_breakers;
};

/// A request that a native worker can run: every documented field checked (see schema.h).
struct NativeRequest {
  Surface surface = Surface::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;

  /// chat: the messages as the template gets them: role developer is system, content parts of type
  /// text are joined, nulls are dropped, everything else untouched and in its order. JSON text.
  std::string messages_json;
  std::string tools_json;               ///< Empty if none.
  std::string template_arguments_json;  ///< chat_template_kwargs, empty if none.
  std::vector<Prompt> prompts;          ///< completions: at least one.
  bool echo = false;
  Tier tier = Tier::kDefault;
  std::string suffix;  ///< completions: what follows the answer; empty if nothing.

  // At most 128 choices altogether: prompts times `best_of`.
  int n = 1;        ///< Answers to each prompt.
  int best_of = 1;  ///< How many are generated, at least `n`, of which the best are the answer.
  std::optional<int> top_logprobs;  ///< Logprobs are wanted, and so many of the most probable.

  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int> top_k;
  std::optional<float> min_p;
  std::optional<std::uint64_t> seed;
  /// max_completion_tokens, else max_tokens; 0 with `echo` only: nothing is generated.
  std::optional<int> completion_tokens_max;
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_token_ids;
  int min_tokens = 0;
  bool ignore_eos = false;

  std::optional<float> frequency_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> repetition_penalty;
  std::vector<std::pair<std::int32_t, float>> logit_bias;  ///< Token ids and biases.
  std::optional<float> xtc_probability;
  std::optional<float> xtc_threshold;
  DryFields dry;

  // The extension object `mlxs`.
  bool want_token_ids = false;              ///< mlxs.token_ids: true
  std::optional<std::uint64_t> drawn_seed;  ///< mlxs.seed: used when the request brings no seed.
  /// mlxs.resume: ids of this answer that were generated already, of the only choice; the answer
  /// goes on after their text, whose SHA-256 (hex, without an echoed prompt) may be checked.
  std::vector<std::int32_t> resume;
  std::optional<std::string> resume_text_hash;
};

/// Checks every documented field of `envelope.body` by the table in schema.h: kInvalidRequest or
/// kUnsupportedParameter naming the field ("messages[2].role", "stop[0]").
[[nodiscard]] Result<NativeRequest> parse_native(const Envelope& envelope);

/// Fields of the body that nobody documents, for the "logged once" rule.
[[nodiscard]] std::vector<std::string> undocumented_fields(const Envelope& envelope);

}  // namespace mlxs::api
