#pragma once

#include "engine/answer.h"
#include "engine/detokenizer.h"
#include "engine/engine.h"
#include "engine/sample/logit_rules.h"
#include "engine/sample/sampler.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace mlxs::engine {

/// What the rows of an engine share: memory that lives from one draw to the next.
struct DrawScratch {
  Sampler sampler;
  std::vector<float> logits;
};

/// One sequence from logits to events: changes its logits by its parameters, draws, and turns the
/// token into the answer's next event. Engine thread only.
class SequenceRow {
 public:
  /// Of `request`, whose ids are below the vocabulary's size.
  SequenceRow(SequenceId id,
              const ModelInfo& info,
              const GenerationRequest& request,
              std::unique_ptr<Detokenizer> detokenizer);

  /// Goes through tokens that were generated already; before the first draw. kInvalidRequest when
  /// the answer would have ended with them.
  [[nodiscard]] Result<void> resume(std::span<const TokenId> ids);
  /// The model's `logits` for the token at `position` of the prompt (or of what was resumed), for a
  /// row that asked for them.
  void note_prompt(std::span<const float> logits, int position, DrawScratch& scratch);

  /// Draws the token at `position` from the model's `logits`. The event has kError, and no token,
  /// when there is none to draw: kInternal when the logits are broken, kInvalidRequest when the
  /// request's own rules ban every token.
  [[nodiscard]] GenerationEvent draw(std::span<const float> logits,
                                     std::uint64_t position,
                                     DrawScratch& scratch);
  /// As Answer::fail.
  [[nodiscard]] GenerationEvent fail(Error error) const { return answer_.fail(std::move(error)); }

 private:
  const SamplingParams sampling_;
  const std::optional<int> top_logprobs_;
  std::vector<TokenId> prompt_;  // and what was resumed; only where note_prompt needs it
  const std::size_t prompt_tokens_;
  std::vector<TokenLogprob> prompt_logprobs_;  // for the first event
  std::unique_ptr<LogitRules> rules_;          // null: the logits are drawn from as they are
  Answer answer_;
};

}  // namespace mlxs::engine
