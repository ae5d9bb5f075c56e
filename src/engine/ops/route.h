#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

/// Which experts each token goes to, and their shares in its result.
struct Routes {
  mlx::core::array experts;  ///< [T, each] uint32
  mlx::core::array shares;   ///< [T, each] dtype of the logits
};

/// The `each` experts of a router's highest logits. Their shares are those of a softmax over all
/// experts; `normalised`: over the chosen ones, so that they sum to one.
///   logits  [T, experts], 1 <= each <= experts
/// In float32 on CPU one operation of our own, the best expert first, the lower one of equals;
/// elsewhere MLX's operations, in an order of their own. Lazy.
[[nodiscard]] Routes route(const mlx::core::array& logits, int each, bool normalised);

}  // namespace mlxs::engine
