#pragma once

#include "engine/detokenizer.h"
#include "engine/engine.h"
#include "engine/logprob_queue.h"
#include "engine/stop_matcher.h"
#include "engine/types.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {

/// One sequence's way from tokens to events: detokenises, looks for stop strings and end tokens,
/// counts. Follows from the tokens alone. One thread.
class Answer {
 public:
  struct Ends {
    std::vector<TokenId> end_tokens;
    std::vector<std::string> stop;
    int completion_tokens_max = 0;
    int min_tokens = 0;  ///< Text of the first so many tokens is no part of a stop string.
  };
  Answer(SequenceId id, int prompt_tokens, Ends ends, std::unique_ptr<Detokenizer> detokenizer);

  /// The event of the next token. It has a finish reason when the answer is over: kStop after an
  /// end token (whose text never appears) or a stop string, kLength after `completion_tokens_max`
  /// (with everything withheld), kError when the token can't be detokenised. Then no more may
  /// follow.
  /// `logprob`, for answers that want them: of the token, its text still empty.
  [[nodiscard]] GenerationEvent advance(TokenId token,
                                        std::optional<TokenLogprob> logprob = std::nullopt);
  /// Numbers of a token that `advance` got without, the last one being 1 `back`.
  void fill_logprob(std::size_t back, float logprob, std::vector<TopLogprob> top) {
    logprobs_.fill(back, logprob, std::move(top));
  }
  /// The last event of a sequence that failed. Withheld text is dropped.
  [[nodiscard]] GenerationEvent fail(Error error) const;

 private:
  using MaybeReason = std::optional<FinishReason>;
  [[nodiscard]] Result<MaybeReason> consume(TokenId token,
                                            std::optional<TokenLogprob>& logprob,
                                            std::string& text);
  [[nodiscard]] Result<MaybeReason> close(FinishReason reason, std::string& text);

  const SequenceId id_;
  const int prompt_tokens_;
  const int completion_tokens_max_;
  const int min_tokens_;
  const std::vector<TokenId> end_tokens_;
  int completion_tokens_ = 0;
  std::unique_ptr<Detokenizer> detokenizer_;
  StopMatcher stop_matcher_;
  LogprobQueue logprobs_;
};

}  // namespace mlxs::engine
