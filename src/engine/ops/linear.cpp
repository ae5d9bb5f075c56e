#include "engine/ops/linear.h"

#include "engine/ops/dense_product.h"
#include "engine/ops/packed_product.h"

#include <mlx/ops.h>
#include <mlx/utils.h>

#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

mx::array product(const mx::array& x, const Weight& weight) {
  if (weight.packed) return packed_product(x, weight.packed);
  if (weight.quantised()) {
    return mx::quantized_matmul(x,
                                weight.data,
                                *weight.scales,
                                weight.biases,
                                true,
                                weight.group_size,
                                weight.bits,
                                weight.mode);
  }
  if (can_dense_product(x, weight.data)) return dense_product(x, weight.data);
  return mx::matmul(x, mx::transpose(weight.data));
}

mx::array expert_product(const mx::array& x,
                         const Weight& weight,
                         const mx::array& experts,
                         bool sorted) {
  if (weight.packed) return packed_expert_product(x, weight.packed, weight.experts, experts);
  if (!weight.quantised()) {
    if (can_expert_product(x, weight.data)) return expert_dense_product(x, weight.data, experts);
    // MLX 0.32.4 computes something else on CUDA when it is told that indices are sorted (seen with
    // its Python module too: errors as large as the values).
#ifdef MLXS_CUDA
    sorted = false;
#endif
    const mx::array rows = mx::gather_mm(
        mx::expand_dims(x, 1), mx::swapaxes(weight.data, -1, -2), std::nullopt, experts, sorted);
    return mx::squeeze(rows, 1);
  }
  const mx::array rows = mx::gather_qmm(mx::expand_dims(x, 1),
                                        weight.data,
                                        *weight.scales,
                                        weight.biases,
                                        std::nullopt,
                                        experts,
                                        true,
                                        weight.group_size,
                                        weight.bits,
                                        weight.mode,
                                        std::nullopt,
                                        sorted);
  return mx::squeeze(rows, 1);
}

template <class Product>
mx::array beside(const std::vector<Weight>& weights, const Product& product) {
  if (weights.size() == 1) return product(weights.front());
  std::vector<mx::array> parts;
  for (const Weight& weight : weights) parts.push_back(product(weight));
  return mx::concatenate(std::move(parts), -1);
}

}  // namespace

mx::array linear(const mx::array& x, const Weight& weight, const std::optional<mx::array>& bias) {
  const mx::array y = product(x, weight);
  return bias ? mx::add(y, *bias) : y;
}

mx::array linear(const mx::array& x,
                 const std::vector<Weight>& weights,
                 const std::optional<mx::array>& bias) {
  const mx::array y = beside(weights, [&](const Weight& weight) { return product(x, weight); });
  return bias ? mx::add(y, *bias) : y;
}

mx::array embedding(const mx::array& tokens, const Weight& weight, mx::Dtype dtype) {
  if (weight.packed) return mx::astype(packed_rows(tokens, weight.packed), dtype);
  const mx::array rows = mx::take(weight.data, tokens, 0);
  if (!weight.quantised()) return mx::astype(rows, dtype);
  std::optional<mx::array> biases;
  if (weight.biases) biases = mx::take(*weight.biases, tokens, 0);
  return mx::dequantize(rows,
                        mx::take(*weight.scales, tokens, 0),
                        biases,
                        weight.group_size,
                        weight.bits,
                        weight.mode,
                        std::nullopt,
                        dtype);
}

mx::array expert_linear(const mx::array& x,
                        const std::vector<Weight>& weights,
                        const mx::array& experts,
                        bool sorted) {
  return beside(weights,
                [&](const Weight& weight) { return expert_product(x, weight, experts, sorted); });
}

}  // namespace mlxs::engine
