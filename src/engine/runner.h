#pragma once

#include "base/result.h"
#include "engine/step.h"
#include "engine/types.h"

namespace mlxs::engine {

/// Computes steps: the seam between bookkeeping (schedule, blocks, sampling) and tensors. The real
/// one runs a model on MLX (`model_runner.h`); tests and the thread sanitizer use a small fake.
/// Engine thread only.
class Runner {
 public:
  virtual ~Runner() = default;
  [[nodiscard]] virtual const ModelInfo& info() const = 0;
  /// Runs one step to its end and writes keys and values of its tokens into their blocks. Row-wise:
  /// a row's logits don't depend on which other rows share the step.
  /// kInternal when the evaluation failed: nothing was advanced, the same step may be tried again.
  [[nodiscard]] virtual Result<Logits> run(const Step& step) = 0;
};

}  // namespace mlxs::engine
