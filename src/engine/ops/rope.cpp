#include "engine/ops/rope.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <cmath>
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

mx::array rope(const mx::array& x, const Rope& rope, const mx::array& positions) {
  // One token a batch entry: the only form in which MLX takes a position for each.
  const mx::array rows = mx::expand_dims(x, 2);
  const mx::array turned =
      mx::fast::rope(rows, x.shape(-1), false, std::nullopt, rope.scale, positions, rope.freqs);
  return mx::squeeze(turned, 2);
}

}  // namespace mlxs::engine
