#include "engine/answer.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace mlxs::engine {

Answer::Answer(SequenceId id,
               int prompt_tokens,
               Ends ends,
               std::unique_ptr<Detokenizer> detokenizer)
    : id_{id},
      prompt_tokens_{prompt_tokens},
      completion_tokens_max_{ends.completion_tokens_max},
      min_tokens_{ends.min_tokens},
      end_tokens_{std::move(ends.end_tokens)},
      detokenizer_{std::move(detokenizer)},
      stop_matcher_{std::move(ends.stop)} {}

GenerationEvent Answer::advance(TokenId token, std::optional<TokenLogprob> logprob) {
  ++completion_tokens_;
  const bool wants_logprobs = logprob.has_value();
  std::string text;
  const auto reason = consume(token, logprob, text);
  GenerationEvent event = reason ? GenerationEvent{} : fail(reason.error());
  event.sequence = id_;
  event.token_ids = {token};
  if (reason && wants_logprobs) {
    if (stop_matcher_.stopped())
      event.logprobs = logprobs_.cut_after(text.size());
    else
      event.logprobs = *reason ? logprobs_.take_all() : logprobs_.take(text.size());
  }
  event.text = std::move(text);
  if (!reason || !*reason) return event;
  event.finish = *reason;
  event.prompt_tokens = prompt_tokens_;
  event.completion_tokens = completion_tokens_;
  return event;
}

Result<Answer::MaybeReason> Answer::consume(TokenId token,
                                            std::optional<TokenLogprob>& logprob,
                                            std::string& text) {
  if (std::ranges::find(end_tokens_, token) != end_tokens_.end())
    return close(FinishReason::kStop, text);
  const auto piece = detokenizer_->push(token);
  if (!piece) return piece.error();
  if (logprob) {
    logprob->text = *piece;
    logprobs_.push(std::move(*logprob));
  }
  text = completion_tokens_ <= min_tokens_ ? *piece : stop_matcher_.push(*piece);
  if (stop_matcher_.stopped()) return MaybeReason{FinishReason::kStop};
  if (completion_tokens_ >= completion_tokens_max_) return close(FinishReason::kLength, text);
  return MaybeReason{};
}

Result<Answer::MaybeReason> Answer::close(FinishReason reason, std::string& text) {
  const auto rest = detokenizer_->finish();
  if (!rest) return rest.error();
  logprobs_.extend_last(*rest);
  text += stop_matcher_.push(*rest);
  if (stop_matcher_.stopped()) return MaybeReason{FinishReason::kStop};
  text += stop_matcher_.finish();
  return MaybeReason{reason};
}

GenerationEvent Answer::fail(Error error) const {
  return {.sequence = id_,
          .token_ids = {},
          .text = {},
          .finish = FinishReason::kError,
          .error = std::move(error),
          .prompt_tokens = prompt_tokens_,
          .completion_tokens = completion_tokens_};
}

}  // namespace mlxs::engine
