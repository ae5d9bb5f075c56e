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

/// One allocation for all layers, so that it is large enough for fresh pages, cut into views.
std::vector<KvLayer> cpu_layers(const KvPoolShape& shape, const mx::Shape& axes) {
  mx::clear_cache();  // A recycled buffer would be neither zero nor untouched.
  const mx::Shape all{2 * shape.layers, axes[0], axes[1], axes[2], axes[3]};
  const auto bytes = static_cast<std::size_t>(shape.bytes());
  mx::array pool(mx::allocator::malloc(bytes), all, shape.dtype);
  if (bytes < kFreshPagesFrom) std::memset(pool.data<char>(), 0, bytes);
  const auto view = [&](int index) {
    mx::Shape end = all;
    end[0] = index + 1;
    return mx::squeeze(mx::slice(pool, {index, 0, 0, 0, 0}, end), 0);
  };
  std::vector<KvLayer> layers;
  std::vector<mx::array> views;
  for (int i = 0; i < shape.layers; ++i) {
    layers.push_back({view(2 * i), view(2 * i + 1)});
    views.push_back(layers.back().keys);
    views.push_back(layers.back().values);
  }
  mx::eval(std::move(views));
  return layers;
}

std::vector<KvLayer> gpu_layers(const KvPoolShape& shape, const mx::Shape& axes) {
  std::vector<KvLayer> layers;
  for (int i = 0; i < shape.layers; ++i) {
    layers.push_back({mx::zeros(axes, shape.dtype), mx::zeros(axes, shape.dtype)});
    mx::eval(layers.back().keys, layers.back().values);
  }
  return layers;
}

}  // namespace

std::uint64_t KvPoolShape::block_bytes() const {
  return 2ull * static_cast<std::uint64_t>(layers) * static_cast<std::uint64_t>(kv_heads) *
         static_cast<std::uint64_t>(head_dim) * kBlockTokens * mx::size_of(dtype);
}

KvPool::KvPool(const KvPoolShape& shape) : shape_(shape) {
  const mx::Shape axes{shape.blocks, shape.kv_heads, kBlockTokens, shape.head_dim};
  layers_ =
      mx::default_device() == mx::Device::cpu ? cpu_layers(shape, axes) : gpu_layers(shape, axes);
}

}  // namespace mlxs::engine
