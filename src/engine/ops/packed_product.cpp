#include "engine/ops/packed_product.h"

#include "base/assert.h"
#include "engine/ops/cpu_op.h"
#include "engine/ops/expert_product.h"
#include "engine/ops/product.h"

#include <mlx/ops.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

struct ProductKernel {
  std::shared_ptr<const PackedMatrix> weight;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    MLXS_ASSERT(x.strides[1] == 1);
    multiply({x.as<float>(), x.shape[0], x.strides[0]}, *weight, out);
  }
};

struct ExpertKernel {
  std::shared_ptr<const PackedMatrix> weight;
  int rows;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    MLXS_ASSERT(x.strides[1] == 1 && (inputs[1].shape[0] == 1 || inputs[1].strides[0] == 1));
    multiply_experts({x.as<float>(), x.shape[0], x.strides[0]},
                     *weight,
                     rows,
                     inputs[1].as<std::int32_t>(),
                     out);
  }
};

struct RowsKernel {
  std::shared_ptr<const PackedMatrix> weight;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const auto* tokens = inputs[0].as<std::int32_t>();
    for (int t = 0; t < inputs[0].shape[0]; ++t) {
      weight->unpack_row(tokens[t], out + std::int64_t{t} * weight->columns());
    }
  }
};

}  // namespace

mx::array packed_product(const mx::array& x, const std::shared_ptr<const PackedMatrix>& weight) {
  if (x.ndim() != 2 || x.shape(1) != weight->columns() || x.dtype() != mx::float32) {
    throw std::invalid_argument("[packed_product] x and weight do not fit each other");
  }
  return cpu_op("mlxs::PackedProduct", {x.shape(0), weight->rows()}, {x}, ProductKernel{weight});
}

mx::array packed_expert_product(const mx::array& x,
                                const std::shared_ptr<const PackedMatrix>& weight,
                                int count,
                                const mx::array& experts) {
  if (x.ndim() != 2 || x.shape(1) != weight->columns() || x.dtype() != mx::float32 ||
      experts.shape() != mx::Shape{x.shape(0)} || count <= 0 || weight->rows() % count != 0) {
    throw std::invalid_argument("[packed_product] x, weight and experts do not fit each other");
  }
  const int rows = weight->rows() / count;
  return cpu_op("mlxs::PackedExpertProduct",
                {x.shape(0), rows},
                {x, mx::contiguous(experts)},
                ExpertKernel{weight, rows});
}

mx::array packed_rows(const mx::array& tokens, const std::shared_ptr<const PackedMatrix>& weight) {
  return cpu_op(
      "mlxs::PackedRows", {tokens.shape(0), weight->columns()}, {tokens}, RowsKernel{weight});
}

}  // namespace mlxs::engine
