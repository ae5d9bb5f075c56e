#pragma once

#include "engine/ops/kv.h"

#include <mlx/dtype.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace mlxs::engine {

/// Positions in a block. 32 wastes half a block, 16 positions, a row on average (0.7 MB with
/// SmolLM2-135M in float32), keeps block tables short (256 entries at 8k), and lets a head's keys
/// in a block be one matrix wide enough for a matrix product.
inline constexpr int kBlockTokens = 32;

struct KvPoolShape {
  std::vector<int> blocks;  ///< By layer.
  int kv_heads = 0;
  int head_dim = 0;
  mlx::core::Dtype dtype = mlx::core::float32;

  /// Keys and values of one block in one layer.
  [[nodiscard]] std::uint64_t block_bytes() const;
  [[nodiscard]] std::uint64_t bytes() const;
};

/// The arrays behind all rows' keys and values, allocated once. Which row owns which block is the
/// scheduler's business. On CPU the memory is committed by the kernel as blocks are first written.
class KvPool {
 public:
  /// Throws what MLX throws when the memory is not to be had.
  explicit KvPool(KvPoolShape shape);

  [[nodiscard]] const KvPoolShape& shape() const { return shape_; }
  [[nodiscard]] const std::vector<KvLayer>& layers() const { return layers_; }
  /// Takes the arrays a step made out of `layers()`, once they are evaluated.
  void advance(std::vector<KvLayer> layers) { layers_ = std::move(layers); }

 private:
  KvPoolShape shape_;
  std::vector<KvLayer> layers_;
};

}  // namespace mlxs::engine
