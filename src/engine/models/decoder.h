#pragma once

#include "engine/load/weights.h"
#include "engine/models/cpu/fused_step.h"
#ifdef MLXS_CUDA
#include "engine/models/cuda/decode_step.h"
#endif
#include "engine/models/decoder_spec.h"
#include "engine/models/feed_forward.h"
#include "engine/models/model.h"
#include "engine/models/self_attention.h"
#include "engine/ops/rope.h"

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::engine {

/// One layer: attention and feed-forward block, each behind a norm and beside a residual; with
/// `output_norms` between two norms.
class DecoderLayer {
 public:
  DecoderLayer(const DecoderSpec& decoder,
               const LayerSpec& spec,
               const Rope& rope,
               const std::string& prefix,
               WeightReader& weights);

  [[nodiscard]] mlx::core::array operator()(const mlx::core::array& x,
                                            const StepArrays& step,
                                            KvLayer& pool) const;

  [[nodiscard]] const SelfAttention& attention() const { return attention_; }
  [[nodiscard]] const FeedForward& feed_forward() const { return feed_forward_; }
  [[nodiscard]] const mlx::core::array& attention_norm() const { return attention_norm_; }
  [[nodiscard]] const mlx::core::array& feed_forward_norm() const { return feed_forward_norm_; }
  [[nodiscard]] const std::optional<mlx::core::array>& attention_output_norm() const {
    return attention_output_norm_;
  }
  [[nodiscard]] const std::optional<mlx::core::array>& feed_forward_output_norm() const {
    return feed_forward_output_norm_;
  }

 private:
  float eps_;
  SelfAttention attention_;
  FeedForward feed_forward_;
  mlx::core::array attention_norm_;
  mlx::core::array feed_forward_norm_;
  std::optional<mlx::core::array> attention_output_norm_;
  std::optional<mlx::core::array> feed_forward_output_norm_;
};

/// The decoder-only transformer that all our families are, after its description.
class Decoder : public Model {
 public:
  Decoder(DecoderSpec spec, WeightReader& weights);

  [[nodiscard]] const ModelShape& shape() const override { return shape_; }
  [[nodiscard]] mlx::core::array forward(const StepArrays& step,
                                         std::vector<KvLayer>& pool) const override;
  /// `forward` by the layers' own operations: what computes steps that no operation takes as a
  /// whole, and what such operations are tested against.
  [[nodiscard]] mlx::core::array forward_by_layers(const StepArrays& step,
                                                   std::vector<KvLayer>& pool) const;
  /// Whether `forward` computes steps as one operation on CPU.
  [[nodiscard]] bool fused() const { return fused_step_ != nullptr; }

 private:
  const DecoderSpec spec_;  // Layers hold references into it, and into ropes_.
  ModelShape shape_;
  mlx::core::Dtype dtype_;
  std::vector<Rope> ropes_;
  Weight embedding_;
  mlx::core::array norm_;
  std::vector<DecoderLayer> layers_;
  std::optional<Weight> head_;
  std::unique_ptr<cpu::FusedStep> fused_step_;  // Null where it has no case for the model.
#ifdef MLXS_CUDA
  std::unique_ptr<cuda::DecodeStep> decode_step_;  // Null where its kernels don't fit.
#endif
};

/// The last step of every family's maker: its configuration is read, `spec` made of it.
[[nodiscard]] Result<std::unique_ptr<Model>> make_decoder(const ConfigReader& config,
                                                          DecoderSpec spec,
                                                          WeightReader& weights);

}  // namespace mlxs::engine
