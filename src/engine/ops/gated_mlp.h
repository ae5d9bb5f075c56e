#pragma once

#include "engine/ops/weight.h"

#include <mlx/array.h>

namespace mlxs::engine {

/// silu(gate)·up of a fused product.
///   gate_up  [T, 2·I]  gate first
///   result   [T, I]    lazy
[[nodiscard]] mlx::core::array silu_gate(const mlx::core::array& gate_up);

/// The feed-forward block with SiLU: down(silu(gate(x))·up(x)).
///   x        [T, W]
///   gate_up  [2·I, W]  gate's rows first
///   down     [W, I]
///   result   [T, W]    lazy
/// Source: arXiv:2002.05202.
[[nodiscard]] mlx::core::array gated_mlp(const mlx::core::array& x,
                                         const Weight& gate_up,
                                         const Weight& down);

}  // namespace mlxs::engine
