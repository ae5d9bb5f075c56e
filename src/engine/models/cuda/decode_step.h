#pragma once

#include "engine/models/decoder_spec.h"
#include "engine/models/model.h"
#include "engine/ops/heads.h"
#include "engine/ops/rope.h"

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <vector>

namespace mlxs::engine::cuda {

/// A layer's weights as the kernels read them: dense bfloat16, [features, inputs].
struct StepLayer {
  mlx::core::array attention_norm;
  mlx::core::array qkv;
  std::optional<mlx::core::array> qkv_bias;
  std::optional<HeadNorms> head_norms;
  mlx::core::array attention_out;
  mlx::core::array feed_forward_norm;
  std::optional<mlx::core::array> router;  ///< [experts, hidden]
  mlx::core::array gate_up;                ///< [2·I, hidden], for each expert
  mlx::core::array down;                   ///< [hidden, I], for each expert
};

struct StepWeights {
  mlx::core::array embedding;
  std::vector<StepLayer> layers;
  mlx::core::array norm;
  mlx::core::array head;
};

/// A whole decode step as one operation: the host adds its kernels to the stream in one go instead
/// of building a graph of some fifteen operations a layer, which takes longer than a small step
/// computes. Takes decode rows and prompts mixed, up to 512 tokens with experts, 64 without; longer
/// steps go through the layers' own operations, which read the same weights and pools. Engine
/// thread only.
class DecodeStep {
 public:
  /// Null where a kernel does not fit: `spec` has something they don't know, or sizes are odd.
  /// `spec` and `ropes` outlive it.
  [[nodiscard]] static std::unique_ptr<DecodeStep> make(const DecoderSpec& spec,
                                                        const std::vector<Rope>& ropes,
                                                        StepWeights weights);
  ~DecodeStep();

  [[nodiscard]] bool takes(const StepArrays& step) const;
  /// As Model::forward; pools are written in place and stay the same arrays.
  [[nodiscard]] mlx::core::array operator()(const StepArrays& step,
                                            const std::vector<KvLayer>& pool) const;

  struct State;

 private:
  explicit DecodeStep(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace mlxs::engine::cuda
