#include "engine/ops/heads.h"

#include "engine/ops/cpu_op.h"
#include "engine/ops/norm.h"
#include "engine/ops/parallel.h"
#include "engine/ops/rope_row.h"
#include "engine/ops/row_kernels.h"

#include <mlx/ops.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// Heads [first, last) of a fused product.
mx::array slice_heads(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0}, {x.shape(0), last, x.shape(2)});
}

/// inputs: qkv, positions, freqs, query norm, key norm; out: queries and keys [T, turned, D].
struct NormedRopeKernel {
  int heads, turned;
  float eps, scale;
  bool neighbours;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const auto* positions = inputs[1].as<std::int32_t>();
    const int width = x.shape[2];
    parallel_rows(x.shape[0], std::int64_t{2} * turned * width, [&](int first, int last) {
      RopeRow row(inputs[2].as<float>(), width, scale, neighbours);
      std::vector<float> normed(static_cast<std::size_t>(width));
      float* to = out + std::int64_t{first} * turned * width;
      for (int t = first; t < last; ++t) {
        row.set_position(positions[t]);
        for (int h = 0; h < turned; ++h, to += width) {
          const float* head = x.as<float>() + t * x.strides[0] + h * x.strides[1];
          const CpuInput& norm = inputs[h < heads ? 3 : 4];
          rms_norm_row(head, norm.as<float>(), width, eps, normed.data());
          row.turn(normed.data(), to);
        }
      }
    });
  }
};

}  // namespace

Heads split_heads(const mx::array& qkv,
                  int heads,
                  int kv_heads,
                  const std::optional<HeadNorms>& norms,
                  const Rope& turn,
                  const mx::array& positions) {
  const int turned = heads + kv_heads;
  const mx::array values = slice_heads(qkv, turned, turned + kv_heads);
  if (norms && !on_cpu_float32(qkv)) {
    const auto part = [&](int first, int last, const mx::array& norm) {
      return rope(rms_norm(slice_heads(qkv, first, last), norm, norms->eps), turn, positions);
    };
    return {part(0, heads, norms->query), part(heads, turned, norms->key), values};
  }
  // Queries and keys turn together: they are neighbours in the fused product.
  const mx::array qk =
      norms ? cpu_op("mlxs::NormedRope",
                     {qkv.shape(0), turned, qkv.shape(2)},
                     {qkv, positions, turn.freqs, norms->query, norms->key},
                     NormedRopeKernel{heads, turned, norms->eps, turn.scale, turn.neighbours})
            : rope(slice_heads(qkv, 0, turned), turn, positions);
  return {slice_heads(qk, 0, heads), slice_heads(qk, heads, turned), values};
}

}  // namespace mlxs::engine
