#include "engine/ops/dense_product.h"

#include "base/assert.h"
#include "engine/ops/cpu_op.h"
#include "engine/ops/parallel.h"

#include <mlx/ops.h>

#ifdef MLXS_OPENBLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

#ifdef MLXS_OPENBLAS

namespace {

// A piece has at least this many multiplications, some 20 µs of one core, ...
constexpr std::int64_t kPieceProductsMin = 1 << 18;
// ... and there are at most this many for each thread: enough to even out a busy core, few enough
// that repacking x for each does not count.
constexpr int kPiecesPerThread = 4;
constexpr int kRowUnit = 16;  // Pieces start at multiples, which the kernels like.

struct DenseProductKernel {
  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const CpuInput& weight = inputs[1];
    const blasint tokens = x.shape[0];
    const blasint rows = weight.shape[0];
    const blasint columns = weight.shape[1];
    if (tokens == 0) return;
    MLXS_ASSERT(columns == 1 || x.strides[1] == 1);
    const std::int64_t products = std::int64_t{tokens} * rows * columns;
    const std::int64_t wanted = std::min<std::int64_t>(
        products / kPieceProductsMin, std::int64_t{kPiecesPerThread} * compute_threads());
    const blasint pieces = static_cast<blasint>(std::max<std::int64_t>(1, wanted));
    const blasint step = ((rows + pieces - 1) / pieces + kRowUnit - 1) / kRowUnit * kRowUnit;
    parallel_for((rows + step - 1) / step, [&](int piece) {
      const blasint first = piece * step;
      const blasint count = std::min(step, rows - first);
      const float* part = weight.as<float>() + std::ptrdiff_t{first} * columns;
      if (tokens == 1) {
        cblas_sgemv(CblasRowMajor,
                    CblasNoTrans,
                    count,
                    columns,
                    1.0f,
                    part,
                    columns,
                    x.as<float>(),
                    1,
                    0.0f,
                    out + first,
                    1);
        return;
      }
      cblas_sgemm(CblasRowMajor,
                  CblasNoTrans,
                  CblasTrans,
                  tokens,
                  count,
                  columns,
                  1.0f,
                  x.as<float>(),
                  static_cast<blasint>(x.strides[0]),
                  part,
                  columns,
                  0.0f,
                  out + first,
                  rows);
    });
  }
};

}  // namespace

bool can_dense_product(const mx::array& x, const mx::array& weight) {
  return on_cpu_float32(x) && x.ndim() == 2 && weight.dtype() == mx::float32;
}

mx::array dense_product(const mx::array& x, const mx::array& weight) {
  if (x.shape(1) != weight.shape(1)) {
    throw std::invalid_argument("[dense_product] x and weight differ in their columns");
  }
  return cpu_op(
      "mlxs::DenseProduct", {x.shape(0), weight.shape(0)}, {x, weight}, DenseProductKernel{});
}

#else

bool can_dense_product(const mx::array&, const mx::array&) { return false; }

mx::array dense_product(const mx::array& x, const mx::array& weight) {
  return mx::matmul(x, mx::transpose(weight));
}

#endif

}  // namespace mlxs::engine
