#include "engine/ops/gated.h"

#include "engine/ops/cpu_op.h"
#include "engine/ops/parallel.h"
#include "engine/ops/row_kernels.h"

#include <mlx/compile.h>
#include <mlx/ops.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

struct GatedKernel {
  Activation activation;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const int half = x.shape[1] / 2;
    constexpr int kElementCost = 4;  // An exponential and a division.
    auto* const row = activation == Activation::kSilu ? silu_gate_row : gelu_tanh_gate_row;
    parallel_rows(x.shape[0], std::int64_t{half} * kElementCost, [&](int first, int last) {
      for (int t = first; t < last; ++t) {
        const float* gate = x.as<float>() + t * x.strides[0];
        row(gate, gate + half, half, out + std::int64_t{t} * half);
      }
    });
  }
};

using Arrays = std::vector<mx::array>;

/// arrays: gate, up.
Arrays silu_gate(const Arrays& arrays) {
  const mx::array& gate = arrays[0];
  return {mx::multiply(mx::multiply(gate, mx::sigmoid(gate)), arrays[1])};
}

Arrays gelu_tanh_gate(const Arrays& arrays) {
  const mx::array& gate = arrays[0];
  const auto number = [&](float value) { return mx::array(value, gate.dtype()); };
  const mx::array cube = mx::multiply(mx::multiply(gate, gate), gate);
  const mx::array inner = mx::multiply(mx::add(gate, mx::multiply(cube, number(0.044715f))),
                                       number(0.7978845608028654f));
  const mx::array share = mx::multiply(mx::add(mx::tanh(inner), number(1)), number(0.5f));
  return {mx::multiply(mx::multiply(gate, share), arrays[1])};
}

}  // namespace

mx::array gated(const mx::array& gate_up, Activation activation) {
  const int half = gate_up.shape(1) / 2;
  if (on_cpu_float32(gate_up)) {
    return cpu_op("mlxs::Gated", {gate_up.shape(0), half}, {gate_up}, GatedKernel{activation});
  }
  const mx::array gate = mx::slice(gate_up, {0, 0}, {gate_up.shape(0), half});
  const mx::array up = mx::slice(gate_up, {0, half}, {gate_up.shape(0), 2 * half});
  auto* const plain = activation == Activation::kSilu ? silu_gate : gelu_tanh_gate;
  // MLX compiles for its CPU by running a C++ compiler, which a server has no business with.
  if (mx::default_device() == mx::Device::cpu) return plain({gate, up}).front();
  return mx::compile(plain, true)({gate, up}).front();
}

}  // namespace mlxs::engine
