#pragma once

#include "engine/ops/row_kernels.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::engine {

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
    for (int i = 0; i < half_; ++i) {
      const float angle = static_cast<float>(position) * scale_ * (1.0f / freqs_[i]);
      angles_[static_cast<std::size_t>(i)] = std::cos(angle);
      angles_[static_cast<std::size_t>(half_ + i)] = std::sin(angle);
    }
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
