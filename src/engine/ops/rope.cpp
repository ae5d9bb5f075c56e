#include "engine/ops/rope.h"

#include "engine/ops/cpu_op.h"
#include "engine/ops/parallel.h"
#include "engine/ops/rope_row.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

std::vector<double> base_freqs(int dims, double base) {
  std::vector<double> freqs;
  for (int i = 0; i < dims; i += 2) freqs.push_back(std::pow(base, double(i) / dims));
  return freqs;
}

mx::array to_array(const std::vector<double>& freqs) {
  const std::vector<float> narrow(freqs.begin(), freqs.end());
  return mx::array(narrow.begin(), mx::Shape{static_cast<int>(narrow.size())});
}

/// inputs: x [T, H, D], positions [T], freqs [D/2].
struct RopeKernel {
  float scale;
  bool neighbours;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& x = inputs[0];
    const auto* positions = inputs[1].as<std::int32_t>();
    const auto* freqs = inputs[2].as<float>();
    const int width = x.shape[2];
    const int heads = x.shape[1];
    parallel_rows(x.shape[0], std::int64_t{heads} * width, [&](int first, int last) {
      RopeRow row(freqs, width, scale, neighbours);
      float* to = out + std::int64_t{first} * heads * width;
      for (int t = first; t < last; ++t) {
        row.set_position(positions[t]);
        for (int h = 0; h < heads; ++h, to += width) {
          row.turn(x.as<float>() + t * x.strides[0] + h * x.strides[1], to);
        }
      }
    });
  }
};

}  // namespace

mx::array rope_freqs(int dims, double base) { return to_array(base_freqs(dims, base)); }

mx::array llama3_rope_freqs(int dims, double base, const Llama3Scaling& scaling) {
  std::vector<double> freqs = base_freqs(dims, base);
  const double long_wave = scaling.original_context / scaling.low_freq_factor;
  const double short_wave = scaling.original_context / scaling.high_freq_factor;
  for (double& freq : freqs) {
    const double wave = 2 * std::numbers::pi * freq;
    if (wave > long_wave) {
      freq *= scaling.factor;
    } else if (wave > short_wave) {
      const double smooth = (scaling.original_context / wave - scaling.low_freq_factor) /
                            (scaling.high_freq_factor - scaling.low_freq_factor);
      freq /= (1 - smooth) / scaling.factor + smooth;
    }
  }
  return to_array(freqs);
}

mx::array yarn_rope_freqs(int dims, double base, const YarnScaling& scaling) {
  std::vector<double> freqs = base_freqs(dims, base);
  // The dimension whose wave turns this often within the original context.
  const auto dimension = [&](double turns) {
    return dims * std::log(scaling.original_context / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(base));
  };
  const double low = std::max(std::floor(dimension(scaling.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension(scaling.beta_slow)), dims - 1.0);
  if (low == high) high += 0.001;  // A step instead of a ramp.
  for (std::size_t i = 0; i < freqs.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double stretched = freqs[i] * scaling.factor;
    freqs[i] = stretched * freqs[i] / (stretched * (1 - ramp) + freqs[i] * ramp);
  }
  return to_array(freqs);
}

float yarn_magnitude(const YarnScaling& scaling) {
  if (scaling.factor <= 1) return 1;
  const double log = 0.1 * std::log(scaling.factor);
  return static_cast<float>((scaling.mscale * log + 1) / (scaling.mscale_all_dim * log + 1));
}

mx::array rope(const mx::array& x, const Rope& rope, const mx::array& positions) {
  if (on_cpu_float32(x)) {
    return cpu_op("mlxs::Rope",
                  x.shape(),
                  {x, positions, rope.freqs},
                  RopeKernel{rope.scale, rope.neighbours});
  }
  // One token a batch entry: the only form in which MLX takes a position for each.
  const mx::array rows = mx::expand_dims(x, 2);
  const mx::array turned = mx::fast::rope(
      rows, x.shape(-1), rope.neighbours, std::nullopt, rope.scale, positions, rope.freqs);
  return mx::squeeze(turned, 2);
}

}  // namespace mlxs::engine
