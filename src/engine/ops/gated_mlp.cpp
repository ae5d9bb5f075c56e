#include "engine/ops/gated_mlp.h"

#include "engine/ops/cpu_op.h"
#include "engine/ops/linear.h"
#include "engine/ops/parallel.h"
#include "engine/ops/row_kernels.h"

#include <mlx/ops.h>

#include <cstdint>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

struct SiluGateKernel {
  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const int half = x.shape[1] / 2;
    constexpr int kElementCost = 4;  // An exponential and a division.
    parallel_rows(x.shape[0], std::int64_t{half} * kElementCost, [&](int first, int last) {
      for (int t = first; t < last; ++t) {
        const float* gate = x.as<float>() + t * x.strides[0];
        silu_gate_row(gate, gate + half, half, out + std::int64_t{t} * half);
      }
    });
  }
};

}  // namespace

mx::array silu_gate(const mx::array& gate_up) {
  const int half = gate_up.shape(1) / 2;
  if (on_cpu_float32(gate_up)) {
    return cpu_op("mlxs::SiluGate", {gate_up.shape(0), half}, {gate_up}, SiluGateKernel{});
  }
  const mx::array gate = mx::slice(gate_up, {0, 0}, {gate_up.shape(0), half});
  const mx::array up = mx::slice(gate_up, {0, half}, {gate_up.shape(0), 2 * half});
  return mx::multiply(mx::multiply(gate, mx::sigmoid(gate)), up);
}

mx::array gated_mlp(const mx::array& x, const Weight& gate_up, const Weight& down) {
  return linear(silu_gate(linear(x, gate_up)), down);
}

}  // namespace mlxs::engine
