#include "engine/ops/linear.h"

#include "engine/ops/dense_product.h"

#include <mlx/ops.h>
#include <mlx/utils.h>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

mx::array product(const mx::array& x, const Weight& weight) {
  if (weight.quantised()) {
    return mx::quantized_matmul(
        x, weight.data, *weight.scales, weight.biases, true, weight.group_size, weight.bits);
  }
  if (can_dense_product(x, weight.data)) return dense_product(x, weight.data);
  return mx::matmul(x, mx::transpose(weight.data));
}

}  // namespace

mx::array linear(const mx::array& x, const Weight& weight, const std::optional<mx::array>& bias) {
  const mx::array y = product(x, weight);
  return bias ? mx::add(y, *bias) : y;
}

mx::array embedding(const mx::array& tokens, const Weight& weight) {
  const mx::array rows = mx::take(weight.data, tokens, 0);
  if (!weight.quantised()) return rows;
  return mx::dequantize(rows,
                        mx::take(*weight.scales, tokens, 0),
                        mx::take(*weight.biases, tokens, 0),
                        weight.group_size,
                        weight.bits);
}

}  // namespace mlxs::engine
