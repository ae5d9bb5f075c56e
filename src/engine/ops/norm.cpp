#include "engine/ops/norm.h"

#include "engine/ops/cpu_op.h"
#include "engine/ops/parallel.h"
#include "engine/ops/row_kernels.h"

#include <mlx/fast.h>

#include <cstdint>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// x is [T, D] or [T, H, D] with a dense last axis.
struct RmsNormKernel {
  float eps;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const float* weight = inputs[1].as<float>();
    const bool heads = x.shape.size() == 3;
    const int width = x.shape.back();
    const int count = heads ? x.shape[1] : 1;
    const std::int64_t head_stride = heads ? x.strides[1] : 0;
    parallel_rows(x.shape[0], std::int64_t{count} * width, [&](int first, int last) {
      float* to = out + std::int64_t{first} * count * width;
      for (int t = first; t < last; ++t) {
        for (int h = 0; h < count; ++h, to += width) {
          const float* row = x.as<float>() + t * x.strides[0] + h * head_stride;
          rms_norm_row(row, weight, width, eps, to);
        }
      }
    });
  }
};

}  // namespace

mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps) {
  if (!on_cpu_float32(x) || x.ndim() < 2 || x.ndim() > 3) return mx::fast::rms_norm(x, weight, eps);
  return cpu_op("mlxs::RmsNorm", x.shape(), {x, weight}, RmsNormKernel{eps});
}

}  // namespace mlxs::engine
