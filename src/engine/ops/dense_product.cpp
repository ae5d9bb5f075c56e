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

/// out[tokens, count] of a wider result = x · partᵀ.
struct Product {
  const float* x;
  blasint tokens, x_stride;
  const float* part;
  blasint count, columns;
  float* out;
  blasint out_stride;

  void operator()() const {
    if (tokens == 1) {
      cblas_sgemv(
          CblasRowMajor, CblasNoTrans, count, columns, 1.0f, part, columns, x, 1, 0.0f, out, 1);
      return;
    }
    cblas_sgemm(CblasRowMajor,
                CblasNoTrans,
                CblasTrans,
                tokens,
                count,
                columns,
                1.0f,
                x,
                x_stride,
                part,
                columns,
                0.0f,
                out,
                out_stride);
  }
};

/// How many of a weight's rows a piece takes.
blasint piece_rows(std::int64_t tokens, blasint rows, blasint columns) {
  const std::int64_t products = tokens * rows * columns;
  const std::int64_t wanted = std::min<std::int64_t>(
      products / kPieceProductsMin, std::int64_t{kPiecesPerThread} * compute_threads());
  const blasint pieces = static_cast<blasint>(std::max<std::int64_t>(1, wanted));
  return ((rows + pieces - 1) / pieces + kRowUnit - 1) / kRowUnit * kRowUnit;
}

struct DenseProductKernel {
  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const CpuInput& weight = inputs[1];
    const blasint tokens = x.shape[0];
    const blasint rows = weight.shape[0];
    const blasint columns = weight.shape[1];
    if (tokens == 0) return;
    MLXS_ASSERT(columns == 1 || x.strides[1] == 1);
    const blasint step = piece_rows(tokens, rows, columns);
    parallel_for((rows + step - 1) / step, [&](int piece) {
      const blasint first = piece * step;
      const float* part = weight.as<float>() + std::ptrdiff_t{first} * columns;
      Product{x.as<float>(),
              tokens,
              static_cast<blasint>(x.strides[0]),
              part,
              std::min(step, rows - first),
              columns,
              out + first,
              rows}();
    });
  }
};

/// inputs: x, weight, experts.
struct ExpertProductKernel {
  /// Rows [first, first + count) of x have one expert.
  struct Run {
    int expert, first, count;
  };

  static std::vector<Run> runs(const CpuInput& experts) {
    std::vector<Run> result;
    const auto* numbers = experts.as<std::int32_t>();
    for (int i = 0; i < experts.shape[0]; ++i) {
      if (result.empty() || result.back().expert != numbers[i])
        result.push_back({numbers[i], i, 0});
      ++result.back().count;
    }
    return result;
  }

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const CpuInput& weight = inputs[1];
    const blasint rows = weight.shape[1];
    const blasint columns = weight.shape[2];
    MLXS_ASSERT(columns == 1 || x.strides[1] == 1);
    const std::vector<Run> all = runs(inputs[2]);
    const blasint step = piece_rows(x.shape[0], rows, columns);
    const int pieces = (rows + step - 1) / step;
    parallel_for(static_cast<int>(all.size()) * pieces, [&](int number) {
      const Run& run = all[static_cast<std::size_t>(number / pieces)];
      const blasint first = number % pieces * step;
      const std::ptrdiff_t row = std::ptrdiff_t{run.expert} * rows + first;
      Product{x.as<float>() + run.first * x.strides[0],
              run.count,
              static_cast<blasint>(x.strides[0]),
              weight.as<float>() + row * columns,
              std::min(step, rows - first),
              columns,
              out + std::ptrdiff_t{run.first} * rows + first,
              rows}();
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

bool can_expert_product(const mx::array& x, const mx::array& weight) {
  return can_dense_product(x, weight) && weight.ndim() == 3;
}

mx::array expert_dense_product(const mx::array& x,
                               const mx::array& weight,
                               const mx::array& experts) {
  if (x.shape(1) != weight.shape(2) || experts.shape() != mx::Shape{x.shape(0)}) {
    throw std::invalid_argument("[expert_product] x, weight and experts do not fit each other");
  }
  return cpu_op("mlxs::ExpertProduct",
                {x.shape(0), weight.shape(1)},
                {x, weight, experts},
                ExpertProductKernel{});
}

#else

bool can_dense_product(const mx::array&, const mx::array&) { return false; }

mx::array dense_product(const mx::array& x, const mx::array& weight) {
  return mx::matmul(x, mx::transpose(weight));
}

bool can_expert_product(const mx::array&, const mx::array&) { return false; }

mx::array expert_dense_product(const mx::array& x,
                               const mx::array& weight,
                               const mx::array& experts) {
  const mx::array rows = mx::gather_mm(
      mx::expand_dims(x, 1), mx::swapaxes(weight, -1, -2), std::nullopt, experts, true);
  return mx::squeeze(rows, 1);
}

#endif

}  // namespace mlxs::engine
