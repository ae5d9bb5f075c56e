// Our CUDA kernels against plain MLX operations on the same device. Needs a GPU: run by
// scripts/gpu_test.sh on a machine that has one.

#include "engine/ops/attention.h"
#include "engine/ops/cuda/attention.h"
#include "engine/ops/cuda/kv_append.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <ostream>
#include <random>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

constexpr int kBlock = 32;

struct Case {
  mx::Dtype dtype;
  int heads, kv_heads, width;
  std::vector<std::pair<int, int>> rows;  // q_len, kv_len
  AttentionParams params;
};

std::vector<Segment> segments(const Case& one, int& blocks) {
  std::vector<Segment> made;
  int start = 0;
  blocks = 0;
  for (const auto& [q_len, kv_len] : one.rows) blocks += (kv_len + kBlock - 1) / kBlock;
  std::vector<int> order(static_cast<std::size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, std::mt19937{7});
  std::size_t next = 0;
  for (const auto& [q_len, kv_len] : one.rows) {
    Segment segment{start, q_len, kv_len, {}};
    for (int i = 0; i * kBlock < kv_len; ++i) segment.blocks.push_back(BlockId{order[next++]});
    made.push_back(std::move(segment));
    start += q_len;
  }
  return made;
}

float largest_difference(const mx::array& a, const mx::array& b) {
  const auto wide = [](const mx::array& x) { return mx::astype(x, mx::float32); };
  return mx::max(mx::abs(mx::subtract(wide(a), wide(b)))).item<float>();
}

class CudaAttention : public testing::TestWithParam<Case> {};

TEST_P(CudaAttention, EqualsPlainOperations) {
  const Case& one = GetParam();
  int blocks = 0;
  const auto plan = std::make_shared<const AttentionPlan>(segments(one, blocks), kBlock);
  mx::random::seed(3);
  const auto random = [&](mx::Shape shape) {
    return mx::astype(mx::random::normal(std::move(shape)), one.dtype);
  };
  const KvLayer pool{random({blocks, one.kv_heads, kBlock, one.width}),
                     random({blocks, one.kv_heads, kBlock, one.width})};
  // Queries as a slice of a fused product: strided, as models pass them.
  const mx::array fused = random({plan->tokens(), one.heads + 2 * one.kv_heads, one.width});
  const mx::array q = mx::slice(fused, {0, 0, 0}, {plan->tokens(), one.heads, one.width});
  ASSERT_TRUE(cuda::can_attention(q, pool));

  const mx::array ours = cuda::attention(q, pool, plan, one.params);
  const mx::array plain = attention_reference(q, pool, *plan, one.params);

  EXPECT_LT(largest_difference(ours, plain), one.dtype == mx::bfloat16 ? 0.03f : 0.004f);
}

const AttentionParams kPlain{0.09f, 0, 0};
INSTANTIATE_TEST_SUITE_P(
    Shapes,
    CudaAttention,
    testing::Values(
        Case{mx::bfloat16, 8, 8, 64, {{1, 1}}, kPlain},
        Case{mx::bfloat16, 32, 8, 128, {{1, 17}, {1, 129}, {1, 64}}, kPlain},
        Case{mx::bfloat16, 32, 4, 128, {{1, 5000}}, kPlain},
        Case{mx::bfloat16, 32, 4, 128, {{1, 5000}, {1, 3}, {130, 130}, {7, 300}}, kPlain},
        Case{mx::bfloat16, 32, 16, 128, {{70, 200}, {1, 90}}, {0.0883f, 48, 50}},
        Case{mx::bfloat16, 8, 4, 256, {{33, 700}, {1, 600}}, {0.0625f, 512, 0}},
        Case{mx::float16, 14, 2, 64, {{40, 40}, {1, 900}, {1, 31}, {1, 32}, {1, 33}}, kPlain},
        Case{mx::float16, 16, 8, 128, {{257, 1024}}, {0.0883f, 0, 30}}));

TEST(CudaKvAppend, WritesRowsWhereTheyBelongAndNothingElse) {
  mx::random::seed(5);
  const auto random = [&](mx::Shape shape) {
    return mx::astype(mx::random::normal(std::move(shape)), mx::bfloat16);
  };
  KvLayer pool{random({6, 4, kBlock, 128}), random({6, 4, kBlock, 128})};
  const mx::array before = mx::astype(pool.keys, mx::float32);
  const mx::array fused = random({3, 16, 128});
  const mx::array keys = mx::slice(fused, {0, 8, 0}, {3, 12, 128});
  const mx::array values = mx::slice(fused, {0, 12, 0}, {3, 16, 128});
  const std::vector<std::int32_t> at{5 * kBlock + 31, 0, 2 * kBlock + 7};
  const mx::array slots(at.begin(), {3}, mx::int32);
  mx::eval(pool.keys, pool.values, before, fused);
  ASSERT_TRUE(cuda::can_kv_append(pool));

  const KvLayer after = cuda::kv_append(pool, keys, values, slots);

  mx::array expected = before;
  for (int i = 0; i < 3; ++i) {
    const int block = at[static_cast<std::size_t>(i)] / kBlock;
    const int place = at[static_cast<std::size_t>(i)] % kBlock;
    const mx::array row = mx::reshape(
        mx::astype(mx::slice(keys, {i, 0, 0}, {i + 1, 4, 128}), mx::float32), {1, 4, 1, 128});
    expected = mx::slice_update(
        expected, row, mx::Shape{block, 0, place, 0}, mx::Shape{block + 1, 4, place + 1, 128});
  }
  EXPECT_EQ(largest_difference(after.keys, expected), 0);
  const mx::array got = mx::slice(after.values, {2, 0, 7, 0}, {3, 4, 8, 128});
  EXPECT_EQ(largest_difference(mx::reshape(got, {4, 128}),
                               mx::reshape(mx::slice(values, {2, 0, 0}, {3, 4, 128}), {4, 128})),
            0);
}

}  // namespace
}  // namespace mlxs::engine
