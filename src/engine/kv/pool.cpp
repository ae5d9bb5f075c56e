#include "engine/kv/pool.h"

#include <mlx/allocator.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>
#include <mlx/utils.h>

#include <cstring>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

// From this size on, malloc maps fresh pages (glibc's threshold never passes 32 MiB): zero already,
// and not resident before they are written.
constexpr std::size_t kFreshPagesFrom = std::size_t{64} << 20;

mx::array make_zeros(const mx::Shape& shape, mx::Dtype dtype) {
  if (mx::default_device() != mx::Device::cpu) {
    mx::array array = mx::zeros(shape, dtype);
    mx::eval(array);
    return array;
  }
  std::size_t bytes = mx::size_of(dtype);
  for (const auto axis : shape) bytes *= static_cast<std::size_t>(axis);
  mx::array array(mx::allocator::malloc(bytes), shape, dtype);
  if (bytes < kFreshPagesFrom) std::memset(array.data<char>(), 0, bytes);
  return array;
}

}  // namespace

std::uint64_t KvPoolShape::block_bytes() const {
  return 2ull * static_cast<std::uint64_t>(layers) * static_cast<std::uint64_t>(kv_heads) *
         static_cast<std::uint64_t>(head_dim) * kBlockTokens * mx::size_of(dtype);
}

KvPool::KvPool(const KvPoolShape& shape) : shape_(shape) {
  mx::clear_cache();  // A recycled buffer would be neither zero nor untouched.
  const mx::Shape axes{shape.blocks, shape.kv_heads, kBlockTokens, shape.head_dim};
  for (int i = 0; i < shape.layers; ++i) {
    layers_.push_back({make_zeros(axes, shape.dtype), make_zeros(axes, shape.dtype)});
  }
}

}  // namespace mlxs::engine
