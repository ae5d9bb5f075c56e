#pragma once

#include "engine/answer.h"
#include "engine/detokenizer.h"
#include "engine/engine.h"
#include "engine/sample/logit_rules.h"
#include "engine/sample/sampler.h"

#include <cstdint>
#include <memory>
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
  std::unique_ptr<LogitRules> rules_;  // null: the logits are drawn from as they are
  Answer answer_;
};

}  // namespace mlxs::engine
