#pragma once

#include "engine/detokenizer.h"
#include "engine/engine.h"
#include "engine/stop_matcher.h"
#include "engine/types.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::engine {

/// One sequence's way from tokens to events: detokenises, looks for stop strings and end tokens,
/// counts. Engine thread only.
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
  [[nodiscard]] GenerationEvent advance(TokenId token);
  /// The last event of a sequence that failed. Withheld text is dropped.
  [[nodiscard]] GenerationEvent fail(Error error) const;

 private:
  using MaybeReason = std::optional<FinishReason>;
  [[nodiscard]] Result<MaybeReason> consume(TokenId token, std::string& text);
  [[nodiscard]] Result<MaybeReason> close(FinishReason reason, std::string& text);

  const SequenceId id_;
  const int prompt_tokens_;
  const int completion_tokens_max_;
  const int min_tokens_;
  const std::vector<TokenId> end_tokens_;
  int completion_tokens_ = 0;
  std::unique_ptr<Detokenizer> detokenizer_;
  StopMatcher stop_matcher_;
};

}  // namespace mlxs::engine
