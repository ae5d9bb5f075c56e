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
  return answer_.advance(*token);
}

}  // namespace mlxs::engine
