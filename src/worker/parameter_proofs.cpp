#include "worker/parameter_proofs.h"

#include <algorithm>
#include <array>

namespace mlxs::worker {
namespace {

// The fake model's next token follows from everything before it; letters and the space are likely,
// and about one token in thirty is the end.
constexpr std::array kBothSurfaces{
    ParameterProof{"dry_allowed_length", "0", R"({"temperature":0,"dry_multiplier":100})"},
    ParameterProof{
        "dry_base",
        "9",
        R"({"temperature":0,"dry_multiplier":0.2,"logit_bias":{"97":100,"98":100,"99":100}})"},
    ParameterProof{"dry_multiplier", "100", R"({"temperature":0,"dry_allowed_length":0})"},
    ParameterProof{"dry_penalty_last_n",
                   "1",
                   R"({"temperature":0,"dry_multiplier":100,"dry_allowed_length":0})"},
    ParameterProof{
        "dry_sequence_breakers",
        R"(["a"])",
        R"({"temperature":0,"dry_multiplier":9,"logit_bias":{"97":100,"98":100,"99":100}})"},
    ParameterProof{"frequency_penalty", "2", R"({"temperature":0})"},
    ParameterProof{"ignore_eos", "true", R"({"temperature":0,"logit_bias":{"256":3}})"},
    ParameterProof{"logit_bias", R"({"101":100})", R"({"temperature":0})"},
    ParameterProof{"min_p", "1"},
    ParameterProof{"min_tokens", "40", R"({"temperature":0,"logit_bias":{"256":3}})"},
    ParameterProof{.field = "mlxs",
                   .value = R"({"token_ids":true})",
                   .with = R"({"stream":true})",
                   .shows = "`token_ids`: chunks have the ids of their tokens; `seed`: used where "
                            "the request has no `seed`; `resume`: the answer goes on after "
                            "`token_ids`, whose text must have the SHA-256 `text_hash` if given; "
                            "`cache`: `bypass`, `no-store` or `refresh`, which the gateway obeys "
                            "([sharing](sharing.md)), whatever serves the model"},
    ParameterProof{.field = "model",
                   .value = R"("another")",
                   .refused_as = "404 model_not_found model",
                   .shows = "another name than the model's is 404 `model_not_found`"},
    ParameterProof{"n", "2"},
    ParameterProof{"presence_penalty", "2", R"({"temperature":0})"},
    ParameterProof{"repetition_penalty", "2", R"({"temperature":0})"},
    ParameterProof{"seed", "2"},
    ParameterProof{"stop", R"(["e","a"])", R"({"temperature":0})"},
    ParameterProof{"stop_token_ids", "[97,101]", R"({"temperature":0})"},
    ParameterProof{.field = "stream", .value = "true", .shows = "honoured"},
    ParameterProof{"stream_options", R"({"include_usage":true})", R"({"stream":true})"},
    ParameterProof{"temperature", "0"},
    ParameterProof{"top_k", "1"},
    ParameterProof{"top_p", "0.01"},
    ParameterProof{"user", R"("u")"},
    ParameterProof{"xtc_probability", "1", R"({"xtc_threshold":0.05})"},
    ParameterProof{"xtc_threshold", "0.01", R"({"xtc_probability":1})"},
};

constexpr std::array kChatOnly{
    ParameterProof{"audio", R"({"voice":"alloy","format":"wav"})"},
    ParameterProof{"chat_template_kwargs", R"({"enable_thinking":false})"},
    ParameterProof{"function_call", R"({"name":"f"})"},
    ParameterProof{"functions", R"([{"name":"f"}])"},
    ParameterProof{"logprobs", "true"},
    ParameterProof{"max_completion_tokens", "1"},
    ParameterProof{"max_tokens", "1", "{}", "2"},
    ParameterProof{"messages",
                   R"([{"role":"user","content":"a"}])",
                   "{}",
                   R"([{"role":"user","content":"b"}])"},
    ParameterProof{"metadata", R"({"a":"b"})"},
    ParameterProof{"modalities", R"(["text","audio"])"},
    ParameterProof{"moderation", R"({"model":"m"})"},
    ParameterProof{"parallel_tool_calls", "false"},
    ParameterProof{"prediction", R"({"type":"content","content":"x"})"},
    ParameterProof{"prompt_cache_key", R"("k")"},
    ParameterProof{"prompt_cache_options", R"({"a":1})"},
    ParameterProof{"prompt_cache_retention", R"("24h")"},
    ParameterProof{"reasoning_effort", R"("low")"},
    ParameterProof{"response_format", R"({"type":"json_object"})"},
    ParameterProof{"safety_identifier", R"("s")"},
    ParameterProof{.field = "service_tier",
                   .value = R"("flex")",
                   .shows = "does not change the answer; `flex` waits behind and `priority` (or "
                            "`fast`) goes before what comes within 500 steps, the others are "
                            "served in turn; of one flight's clients the first one's counts"},
    ParameterProof{"store", "true"},
    ParameterProof{"tool_choice", R"("required")"},
    ParameterProof{"tools", R"([{"type":"function","function":{"name":"f"}}])"},
    ParameterProof{"top_logprobs", "2", R"({"logprobs":true})"},
    ParameterProof{"verbosity", R"("low")"},
    ParameterProof{"web_search_options", R"({})"},
};

constexpr std::array kCompletionsOnly{
    ParameterProof{"best_of", "3"},
    ParameterProof{"echo", "true"},
    ParameterProof{.field = "max_tokens",
                   .value = "1",
                   .other = "2",
                   .shows = "honoured; 0 with `echo` only, for the prompt's `logprobs`"},
    ParameterProof{"logprobs", "2"},
    ParameterProof{"prompt", R"("a")", "{}", R"("b")"},
    ParameterProof{.field = "suffix",
                   .value = R"("end")",
                   .shows = "honoured by models with tokens to fill gaps; else 400 "
                            "`unsupported_parameter`"},
};

const ParameterProof* find(const auto& proofs, std::string_view field) {
  const auto found = std::ranges::find(proofs, field, &ParameterProof::field);
  return found == proofs.end() ? nullptr : &*found;
}

}  // namespace

const ParameterProof* find_proof(api::Surface surface, std::string_view field) {
  if (const auto* proof = find(kBothSurfaces, field)) return proof;
  return surface == api::Surface::kChat ? find(kChatOnly, field) : find(kCompletionsOnly, field);
}

}  // namespace mlxs::worker
