#include "engine/ops/gated_mlp.h"

#include "engine/ops/linear.h"

#include <mlx/ops.h>

namespace mlxs::engine {

namespace mx = mlx::core;

mx::array silu_gate(const mx::array& gate_up) {
  const int half = gate_up.shape(1) / 2;
  const mx::array gate = mx::slice(gate_up, {0, 0}, {gate_up.shape(0), half});
  const mx::array up = mx::slice(gate_up, {0, half}, {gate_up.shape(0), 2 * half});
  return mx::multiply(mx::multiply(gate, mx::sigmoid(gate)), up);
}

mx::array gated_mlp(const mx::array& x, const Weight& gate_up, const Weight& down) {
  return linear(silu_gate(linear(x, gate_up)), down);
}

}  // namespace mlxs::engine
