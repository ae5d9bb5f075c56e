#include "engine/ops/cpu/attention_kernels.h"
#include "engine/ops/cpu/half.h"

#include <cmath>

namespace mlxs::engine {
namespace {

void to_half(const float* x, int count, std::uint16_t* out) {
  for (int i = 0; i < count; ++i) out[i] = round_to_half(x[i]);
}

void score(const float* const* queries,
           int query_count,
           const std::uint16_t* keys,
           int width,
           float* scores,
           std::int64_t stride) {
  for (int i = 0; i < query_count; ++i) {
    for (int k = 0; k < kKeyBlock; ++k) {
      float sum = 0;
      for (int d = 0; d < width; ++d) {
        sum = std::fma(half_to_float(keys[d * kKeyBlock + k]), queries[i][d], sum);
      }
      scores[i * stride + k] = sum;
    }
  }
}

void add_weighted(const float* weights,
                  std::int64_t stride,
                  int query_count,
                  const std::uint16_t* values,
                  int count,
                  int width,
                  float* const* outs) {
  for (int i = 0; i < query_count; ++i) {
    for (int d = 0; d < width; ++d) {
      float sum = outs[i][d];
      for (int k = 0; k < count; ++k) {
        sum = std::fma(half_to_float(values[k * width + d]), weights[i * stride + k], sum);
      }
      outs[i][d] = sum;
    }
  }
}

}  // namespace

const AttentionKernels kPlainAttention = {to_half, score, add_weighted};

}  // namespace mlxs::engine
