#include "engine/kv/pool.h"

#include <gtest/gtest.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

constexpr int kBlocks = 64;
const KvPoolShape kShape{.blocks = {kBlocks, kBlocks}, .kv_heads = 2, .head_dim = 16};

KvLayer append(const KvLayer& layer, const std::vector<int>& slots, float value) {
  const int count = static_cast<int>(slots.size());
  const mx::array rows = mx::full({count, kShape.kv_heads, kShape.head_dim}, value, mx::float32);
  return kv_append(layer, rows, mx::negative(rows), mx::array(slots.begin(), {count}, mx::int32));
}

TEST(KvPool, StartsAsZeros) {
  const KvPool pool(kShape);

  ASSERT_EQ(pool.layers().size(), 2u);
  for (const KvLayer& layer : pool.layers()) {
    EXPECT_EQ(mx::sum(mx::abs(layer.keys)).item<float>(), 0.0f);
    EXPECT_EQ(mx::sum(mx::abs(layer.values)).item<float>(), 0.0f);
  }
  EXPECT_EQ(kShape.bytes(), 2u * 2 * 64 * 32 * 2 * 16 * 4);
}

/// Resident bytes of this process.
std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(KvPool, TakesMemoryOnlyAsBlocksAreWritten) {
  if (mx::default_device() != mx::Device::cpu || resident_bytes() == 0) GTEST_SKIP();
  KvPoolShape shape = kShape;
  shape.blocks = {16384, 16384};  // 256 MiB
  const std::size_t before = resident_bytes();

  const KvPool pool(shape);
  const KvLayer after = append(pool.layers()[0], {1}, 1.0f);
  mx::eval(after.keys, after.values);

  EXPECT_LT(resident_bytes(), before + shape.bytes() / 16);
}

TEST(KvPool, AppendWritesItsSlotsAndNoOthers) {
  const KvPool pool(kShape);
  const KvLayer after = append(pool.layers()[0], {5, 63 * kBlockTokens + 31}, 3.0f);

  // [blocks, heads, positions, width]
  const mx::array block = mx::sum(after.keys, std::vector<int>{1, 3});
  mx::eval(block, after.values);
  for (int slot = 0; slot < kBlocks * kBlockTokens; ++slot) {
    const bool written = slot == 5 || slot == 63 * kBlockTokens + 31;
    ASSERT_EQ(block.data<float>()[slot], written ? 3.0f * 2 * 16 : 0.0f) << slot;
  }
  EXPECT_EQ(mx::sum(after.values).item<float>(), -3.0f * 2 * 16 * 2);
}

TEST(KvPool, AppendRefusesWhatDoesNotFit) {
  const KvPool pool(kShape);
  const mx::array slots({1}, mx::int32);
  const mx::array right = mx::zeros({1, 2, 16});
  for (const mx::array& wrong : {mx::zeros({1, 3, 16}),
                                 mx::zeros({1, 2, 8}),
                                 mx::zeros({2, 2, 16}),
                                 mx::zeros({1, 2, 16}, mx::float16)}) {
    EXPECT_THROW((void)kv_append(pool.layers()[0], wrong, right, slots), std::invalid_argument);
    EXPECT_THROW((void)kv_append(pool.layers()[0], right, wrong, slots), std::invalid_argument);
  }
}

// The cache must never be copied: not its address nor the peak of memory may change.
TEST(KvPool, StaysInPlaceOver1000Steps) {
  if (mx::default_device() != mx::Device::cpu) GTEST_SKIP() << "in place on CPU only";
  KvPool pool(kShape);
  const float* keys = pool.layers()[1].keys.data<float>();
  const float* values = pool.layers()[1].values.data<float>();
  std::size_t peak = 0;
  for (int step = 0; step < 1000; ++step) {
    std::vector<KvLayer> layers = pool.layers();
    std::vector<mx::array> outputs;
    for (KvLayer& layer : layers) {
      layer = append(layer, {step}, static_cast<float>(step));
      // Something that reads the pool while it is being written by the next layer.
      outputs.push_back(mx::sum(mx::take(layer.keys, mx::array({step / kBlockTokens}), 0)));
      outputs.push_back(layer.values);
    }
    mx::eval(outputs);
    pool.advance(std::move(layers));
    if (step == 10) {
      mx::reset_peak_memory();
      peak = mx::get_active_memory() + kShape.bytes() / 16;  // Half of one layer's keys.
    }
  }

  EXPECT_EQ(pool.layers()[1].keys.data<float>(), keys);
  EXPECT_EQ(pool.layers()[1].values.data<float>(), values);
  EXPECT_LT(mx::get_peak_memory(), peak);
  EXPECT_EQ(keys[(0 * 2 * kBlockTokens + 7) * 16], 7.0f);
}

}  // namespace
}  // namespace mlxs::engine
