#include "engine/ops/vector_product.h"

#include "base/assert.h"

#include <mlx/allocator.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#ifdef MLXS_OPENBLAS
#include <cblas.h>
#endif

#include <memory>
#include <stdexcept>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

#ifdef MLXS_OPENBLAS

namespace {

class VectorProduct : public mx::UnaryPrimitive {
 public:
  using mx::UnaryPrimitive::UnaryPrimitive;

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override {
    const mx::array& x = inputs[0];
    const mx::array& weight = inputs[1];
    out.set_data(mx::allocator::malloc(out.nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.set_input_array(x);
    encoder.set_input_array(weight);
    encoder.set_output_array(out);
    encoder.dispatch([x = x.data<float>(),
                      x_stride = static_cast<blasint>(x.strides(1)),
                      weight = weight.data<float>(),
                      out = out.data<float>(),
                      rows = static_cast<blasint>(weight.shape(0)),
                      columns = static_cast<blasint>(weight.shape(1))] {
      cblas_sgemv(CblasRowMajor,
                  CblasNoTrans,
                  rows,
                  columns,
                  1.0f,
                  weight,
                  columns,
                  x,
                  x_stride,
                  0.0f,
                  out,
                  1);
    });
  }
  void eval_gpu(const std::vector<mx::array>&, mx::array&) override {
    throw std::logic_error("vector_product runs on CPU only");
  }
  const char* name() const override { return "mlxs::VectorProduct"; }
};

}  // namespace

bool can_vector_product(const mx::array& x, const mx::array& weight) {
  return mx::default_device() == mx::Device::cpu && x.ndim() == 2 && x.shape(0) == 1 &&
         x.dtype() == mx::float32 && weight.dtype() == mx::float32;
}

mx::array vector_product(const mx::array& x, const mx::array& weight) {
  MLXS_ASSERT(can_vector_product(x, weight));
  if (x.shape(1) != weight.shape(1)) {
    throw std::invalid_argument("[vector_product] x and weight differ in their columns");
  }
  return mx::array({1, weight.shape(0)},
                   mx::float32,
                   std::make_shared<VectorProduct>(mx::default_stream(mx::Device::cpu)),
                   {x, weight});
}

#else

bool can_vector_product(const mx::array&, const mx::array&) { return false; }

mx::array vector_product(const mx::array& x, const mx::array& weight) {
  return mx::matmul(x, mx::transpose(weight));
}

#endif

}  // namespace mlxs::engine
