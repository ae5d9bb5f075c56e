#pragma once

#include "engine/load/weights.h"
#include "engine/models/decoder_spec.h"

#include <mlx/array.h>

#include <optional>
#include <string>

namespace mlxs::engine {

/// The gated feed-forward block of a layer.
class FeedForward {
 public:
  /// Asks for tensors named `prefix` + "gate_proj.weight" and so on.
  FeedForward(const FeedForwardSpec& spec,
              int hidden_size,
              const std::string& prefix,
              WeightReader& weights);

  /// x [T, hidden_size] → [T, hidden_size]
  [[nodiscard]] mlx::core::array operator()(const mlx::core::array& x) const;

 private:
  Activation activation_;
  Weight gate_up_;
  Weight down_;
  std::optional<mlx::core::array> gate_up_bias_;
  std::optional<mlx::core::array> down_bias_;
};

}  // namespace mlxs::engine
