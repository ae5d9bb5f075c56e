#include "engine/kv/pool.h"

#include <mlx/allocator.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>
#include <mlx/utils.h>

#include <cstring>
#include <numeric>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

// From this size on, malloc maps fresh pages (glibc's threshold never passes 32 MiB): zero already,
// and not resident before they are written.
constexpr std::size_t kFreshPagesFrom = std::size_t{64} << 20;

mx::Shape axes_of(const KvPoolShape& shape, int blocks) {
  return {blocks, shape.kv_heads, kBlockTokens, shape.head_dim};
}

/// One allocation for all layers, so that it is large enough for fresh pages, cut into views.
std::vector<KvLayer> cpu_layers(const KvPoolShape& shape) {
  mx::clear_cache();  // A recycled buffer would be neither zero nor untouched.
  const mx::Shape all =
      axes_of(shape, 2 * std::accumulate(shape.blocks.begin(), shape.blocks.end(), 0));
  const auto bytes = static_cast<std::size_t>(shape.bytes());
  mx::array pool(mx::allocator::malloc(bytes), all, shape.dtype);
  if (bytes < kFreshPagesFrom) std::memset(pool.data<char>(), 0, bytes);
  int at = 0;
  const auto next = [&](int blocks) {
    mx::Shape end = all;
    end[0] = at + blocks;
    return mx::slice(pool, {std::exchange(at, end[0]), 0, 0, 0}, end);
  };
  std::vector<KvLayer> layers;
  std::vector<mx::array> views;
  for (const int blocks : shape.blocks) {
    mx::array keys = next(blocks);
    layers.push_back({std::move(keys), next(blocks)});
    views.push_back(layers.back().keys);
    views.push_back(layers.back().values);
  }
  mx::eval(std::move(views));
  return layers;
}

std::vector<KvLayer> gpu_layers(const KvPoolShape& shape) {
  std::vector<KvLayer> layers;
  for (const int blocks : shape.blocks) {
    const mx::Shape axes = axes_of(shape, blocks);
    layers.push_back({mx::zeros(axes, shape.dtype), mx::zeros(axes, shape.dtype)});
    mx::eval(layers.back().keys, layers.back().values);
  }
  return layers;
}

}  // namespace

std::uint64_t KvPoolShape::block_bytes() const {
  return 2ull * static_cast<std::uint64_t>(kv_heads) * static_cast<std::uint64_t>(head_dim) *
         kBlockTokens * mx::size_of(dtype);
}

std::uint64_t KvPoolShape::bytes() const {
  return block_bytes() * std::accumulate(blocks.begin(), blocks.end(), std::uint64_t{0});
}

KvPool::KvPool(KvPoolShape shape)
    : shape_(std::move(shape)),
      layers_(mx::default_device() == mx::Device::cpu ? cpu_layers(shape_) : gpu_layers(shape_)) {}

}  // namespace mlxs::engine
