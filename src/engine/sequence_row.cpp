#include "engine/sequence_row.h"

#include "engine/sample/row.h"

#include <utility>

namespace mlxs::engine {
namespace {

std::vector<TokenId> end_tokens_of(const ModelInfo& info, const GenerationRequest& request) {
  std::vector<TokenId> ends = request.stop_tokens;
  if (!request.ignore_end_tokens)
    ends.insert(ends.end(), info.end_tokens.begin(), info.end_tokens.end());
  return ends;
}

}  // namespace

SequenceRow::SequenceRow(SequenceId id,
                         const ModelInfo& info,
                         const GenerationRequest& request,
                         std::unique_ptr<Detokenizer> detokenizer)
    : sampling_{request.sampling},
      top_logprobs_{request.top_logprobs},
      prompt_{request.prompt_logits_wanted() ? request.prompt : std::vector<TokenId>{}},
      prompt_tokens_{request.prompt.size()},
      rules_{LogitRules::make(
          request.sampling,
          {.min_tokens = request.min_tokens, .end_tokens = end_tokens_of(info, request)},
          request.prompt)},
      answer_{id,
              static_cast<int>(request.prompt.size()),
              {.end_tokens = end_tokens_of(info, request),
               .stop = request.stop,
               .completion_tokens_max = request.completion_tokens_max,
               .min_tokens = request.min_tokens},
              std::move(detokenizer)} {}

Result<void> SequenceRow::resume(std::span<const TokenId> ids) {
  for (const TokenId token : ids) {
    std::optional<TokenLogprob> logprob;
    if (top_logprobs_) logprob.emplace().token = token;  // the numbers come by note_prompt
    const GenerationEvent event = answer_.advance(token, std::move(logprob));
    if (event.error) return *event.error;
    if (event.finish)
      return mlxs::fail(ErrorCode::kInvalidRequest,
                        "The tokens to resume from end the answer already.",
                        "mlxs.resume");
    if (rules_ != nullptr) rules_->add(token);
  }
  prompt_.insert(prompt_.end(), ids.begin(), ids.end());
  return {};
}

void SequenceRow::note_prompt(std::span<const float> logits, int position, DrawScratch& scratch) {
  const auto at = static_cast<std::size_t>(position);
  const bool broken = find_best(logits).broken;  // the first draw says so, too
  if (broken) return;
  TokenLogprob found = scratch.sampler.logprob(logits, prompt_.at(at), *top_logprobs_);
  if (at < prompt_tokens_)
    prompt_logprobs_.push_back(std::move(found));
  else
    answer_.fill_logprob(prompt_.size() - at, found.logprob, std::move(found.top));
}

GenerationEvent SequenceRow::draw(std::span<const float> logits,
                                  std::uint64_t position,
                                  DrawScratch& scratch) {
  const auto allowed = rules_ == nullptr ? logits : rules_->apply(logits, scratch.logits);
  const auto token = scratch.sampler.sample(allowed, sampling_, position);
  if (!token) {
    if (rules_ == nullptr || find_best(logits).broken) return answer_.fail(token.error());
    return answer_.fail(mlxs::fail(ErrorCode::kInvalidRequest,
                                   "The request's logit_bias and min_tokens ban every token.",
                                   "logit_bias"));
  }
  if (rules_ != nullptr) rules_->add(*token);
  std::optional<TokenLogprob> logprob;
  if (top_logprobs_) logprob = scratch.sampler.logprob(logits, *token, *top_logprobs_);
  GenerationEvent event = answer_.advance(*token, std::move(logprob));
  event.prompt_logprobs = std::exchange(prompt_logprobs_, {});
  return event;
}

}  // namespace mlxs::engine
