#pragma once

#include "engine/ops/row_kernels.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::engine {

/// The cosines of a position's width/2 angles, then their sines.
inline void rope_angles(
    const float* freqs, int width, float scale, std::int32_t position, float* out) {
  const int half = width / 2;
  for (int i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * scale * (1.0f / freqs[i]);
    out[i] = std::cos(angle);
    out[half + i] = std::sin(angle);
  }
}

/// A token's rotation on CPU: its angles, worked out once, turn any number of heads.
class RopeRow {
 public:
  /// Heads of `width`; `freqs` [width/2] outlives the object.
  RopeRow(const float* freqs, int width, float scale, bool neighbours)
      : freqs_(freqs),
        half_(width / 2),
        scale_(scale),
        turn_(neighbours ? rope_head_of_neighbours : rope_head),
        angles_(static_cast<std::size_t>(width)) {}

  void set_position(std::int32_t position) {
    rope_angles(freqs_, 2 * half_, scale_, position, angles_.data());
  }
  void turn(const float* head, float* out) const {
    turn_(head, angles_.data(), angles_.data() + half_, half_, out);
  }

 private:
  const float* freqs_;
  int half_;
  float scale_;
  void (*turn_)(const float*, const float*, const float*, int, float*);
  std::vector<float> angles_;  // Cosines, then sines.
};

}  // namespace mlxs::engine
