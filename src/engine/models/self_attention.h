#pragma once

#include "engine/load/weights.h"
#include "engine/models/decoder_spec.h"
#include "engine/models/model.h"
#include "engine/ops/heads.h"
#include "engine/ops/rope.h"

#include <mlx/array.h>

#include <optional>
#include <string>
#include <vector>

namespace mlxs::engine {

/// The attention block of a layer: projections, rope, pool and attention. `decoder` and `rope`
/// outlive it.
class SelfAttention {
 public:
  /// Asks for tensors named `prefix` + "q_proj.weight" and so on.
  SelfAttention(const DecoderSpec& decoder,
                const AttentionSpec& spec,
                const Rope& rope,
                const std::string& prefix,
                WeightReader& weights);

  /// x [T, hidden_size] → [T, hidden_size]; `pool` becomes the one with this step's keys and
  /// values.
  [[nodiscard]] mlx::core::array operator()(const mlx::core::array& x,
                                            const StepArrays& step,
                                            KvLayer& pool) const;

  /// What a backend that computes whole steps reads. One matrix, or several of different forms.
  [[nodiscard]] const std::vector<Weight>& qkv() const { return qkv_; }
  [[nodiscard]] const Weight& output() const { return output_; }
  [[nodiscard]] const std::optional<mlx::core::array>& qkv_bias() const { return qkv_bias_; }
  [[nodiscard]] const std::optional<mlx::core::array>& output_bias() const { return output_bias_; }
  [[nodiscard]] const std::optional<HeadNorms>& norms() const { return norms_; }

 private:
  [[nodiscard]] std::vector<WeightReader::Part> inputs(const std::string& prefix) const;

  const DecoderSpec& decoder_;
  const AttentionSpec& spec_;
  const Rope& rope_;
  std::vector<Weight> qkv_;
  Weight output_;
  std::optional<mlx::core::array> qkv_bias_;
  std::optional<mlx::core::array> output_bias_;
  std::optional<HeadNorms> norms_;
};

}  // namespace mlxs::engine
