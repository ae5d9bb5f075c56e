#pragma once

#include <mlx/array.h>

#include <optional>

namespace mlxs::engine {

/// How positions turn into rotations: pair (i, i + dims/2) of a head turns by
/// position · scale / freqs[i].
struct Rope {
  mlx::core::array freqs;   ///< [dims/2] float32, wavelengths over 2π
  float scale = 1.0f;       ///< Below 1 for linear scaling.
  bool neighbours = false;  ///< Pairs are (2·i, 2·i + 1), the paper's own layout.
  /// By how much yarn lengthens queries and keys. `rope` leaves it to the scores, which whoever
  /// scales them multiplies by its square.
  float magnitude = 1.0f;
};

/// Frequencies base^(2i/dims).
[[nodiscard]] mlx::core::array rope_freqs(int dims, double base);

struct Llama3Scaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_context = 8192;
};
/// Llama 3.1's stretched frequencies: long waves by `factor`, short ones not, between them
/// smoothly.
[[nodiscard]] mlx::core::array llama3_rope_freqs(int dims,
                                                 double base,
                                                 const Llama3Scaling& scaling);

struct YarnScaling {
  double factor = 1;
  double original_context = 4096;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;
};
/// Yarn's stretched frequencies: dimensions that turn more than `beta_fast` times within the
/// original context stay, those below `beta_slow` stretch by `factor`, between them a ramp.
/// Source: arXiv:2309.00071.
[[nodiscard]] mlx::core::array yarn_rope_freqs(int dims, double base, const YarnScaling& scaling);
/// Its Rope::magnitude.
[[nodiscard]] float yarn_magnitude(const YarnScaling& scaling);

/// Rotates heads by their tokens' positions.
///   x          [T, H, D], D = dims
///   positions  [T] int32
///   result     shape and dtype of x; angles in float32; lazy
/// Source: arXiv:2104.09864, by default in halves, as GPT-NeoX and Hugging Face lay them out.
[[nodiscard]] mlx::core::array rope(const mlx::core::array& x,
                                    const Rope& rope,
                                    const mlx::core::array& positions);

}  // namespace mlxs::engine
