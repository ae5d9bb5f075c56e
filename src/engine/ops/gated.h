#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

enum class Activation {
  kSilu,      ///< x / (1 + e^-x)
  kGeluTanh,  ///< x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), arXiv:1606.08415
};

/// activation(gate)·up of a fused product, the middle of a gated feed-forward block.
///   gate_up  [T, 2·I]  gate first
///   result   [T, I]    dtype of gate_up; lazy
/// Source: arXiv:2002.05202.
[[nodiscard]] mlx::core::array gated(const mlx::core::array& gate_up, Activation activation);

}  // namespace mlxs::engine
