#pragma once

#include "engine/models/decoder_spec.h"
#include "engine/models/model.h"
#include "engine/ops/rope.h"

#include <mlx/array.h>

#include <memory>
#include <vector>

namespace mlxs::engine {

class DecoderLayer;

namespace cpu {

/// A whole step as one operation on CPU, prompts and decode rows mixed in any way: products of
/// packed weights and what lies between them, stage by stage on `parallel_for`'s threads, in memory
/// that is kept from step to step. The same arithmetic as the layers' own operations, bit for bit
/// but for MLX's tanh in capped logits. Engine thread only.
class FusedStep {
 public:
  /// Null where it has no case for a layer (experts) or a matrix is not packed. `spec` outlives it.
  [[nodiscard]] static std::unique_ptr<FusedStep> make(const DecoderSpec& spec,
                                                       const std::vector<Rope>& ropes,
                                                       const Weight& embedding,
                                                       const std::vector<DecoderLayer>& layers,
                                                       const mlx::core::array& norm,
                                                       const Weight& head);
  ~FusedStep();

  /// As Model::forward, of a model with ModelShape::window_of; pools, in float32 or half precision
  /// (`AttentionJob`), are written in place and stay the same arrays. One step at a time:
  /// the result is evaluated before the next one is asked for.
  [[nodiscard]] mlx::core::array operator()(const StepArrays& step,
                                            const std::vector<KvLayer>& pool,
                                            const std::vector<int>& window_of) const;

  class State;

 private:
  explicit FusedStep(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace cpu
}  // namespace mlxs::engine
