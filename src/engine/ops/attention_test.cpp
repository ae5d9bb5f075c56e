#include "engine/ops/attention.h"

#include "engine/ops/attention_cpu.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

namespace mx = mlx::core;

constexpr int kBlock = 8;
constexpr int kBlocks = 64;

struct Shape {
  int heads, kv_heads, width;
};
constexpr Shape kSmall{6, 2, 16};

struct Scene {
  Shape shape;
  std::vector<Segment> segments;
  mx::array q;
  KvLayer kv;
};

/// Random rows over shuffled blocks; what no row owns is not a number, so that a single stray read
/// shows.
Scene make_scene(const std::vector<std::pair<int, int>>& rows,
                 unsigned seed,
                 const Shape& heads = kSmall) {
  std::mt19937 random(seed);
  std::vector<int> order(kBlocks);
  for (int i = 0; i < kBlocks; ++i) order[static_cast<std::size_t>(i)] = i;
  std::shuffle(order.begin(), order.end(), random);

  std::vector<Segment> segments;
  std::vector<float> seen(kBlocks * kBlock, std::numeric_limits<float>::quiet_NaN());
  int tokens = 0;
  std::size_t taken = 0;
  for (const auto& [q_len, kv_len] : rows) {
    Segment segment{tokens, q_len, kv_len, {}};
    for (int at = 0; at < kv_len; at += kBlock) {
      const int block = order.at(taken++);
      segment.blocks.push_back(BlockId{block});
      for (int i = at; i < std::min(kv_len, at + kBlock); ++i) {
        seen[static_cast<std::size_t>(block * kBlock + i - at)] = 0;
      }
    }
    tokens += q_len;
    segments.push_back(std::move(segment));
  }
  const mx::array mask(seen.begin(), {kBlocks, 1, kBlock, 1}, mx::float32);
  const mx::Shape shape{kBlocks, heads.kv_heads, kBlock, heads.width};
  const KvLayer kv{mx::add(mx::random::normal(shape), mask),
                   mx::add(mx::random::normal(shape), mask)};
  const mx::array q = mx::random::normal({tokens, heads.heads, heads.width});
  return {heads, std::move(segments), q, kv};
}

/// The definition, in double precision, one query at a time.
std::vector<double> brute_force(const Scene& scene, const AttentionParams& params) {
  mx::array q = scene.q;
  mx::array keys = scene.kv.keys;
  mx::array values = scene.kv.values;
  mx::eval(q, keys, values);
  const auto [heads, kv_heads, width] = scene.shape;
  const auto at = [kv_heads, width](const mx::array& pool, BlockId block, int head, int position) {
    return pool.data<float>() +
           ((static_cast<int>(block) * kv_heads + head) * kBlock + position % kBlock) * width;
  };
  std::vector<double> out;
  for (const Segment& segment : scene.segments) {
    for (int i = 0; i < segment.q_len; ++i) {
      const int position = segment.kv_len - segment.q_len + i;
      const int first = params.window == 0 ? 0 : std::max(0, position - params.window + 1);
      for (int head = 0; head < heads; ++head) {
        const int kv_head = head / (heads / kv_heads);
        const float* query = q.data<float>() + ((segment.q_start + i) * heads + head) * width;
        std::vector<double> result(static_cast<std::size_t>(width), 0.0);
        double total = 0;
        for (int p = first; p <= position; ++p) {
          const BlockId block = segment.blocks[static_cast<std::size_t>(p / kBlock)];
          double score = 0;
          for (int d = 0; d < width; ++d) score += query[d] * at(keys, block, kv_head, p)[d];
          score *= params.scale;
          if (params.softcap != 0) score = params.softcap * std::tanh(score / params.softcap);
          const double weight = std::exp(score);
          total += weight;
          for (int d = 0; d < width; ++d) {
            result[static_cast<std::size_t>(d)] += weight * at(values, block, kv_head, p)[d];
          }
        }
        for (const double value : result) out.push_back(value / total);
      }
    }
  }
  return out;
}

double distance(const mx::array& lazy, const std::vector<double>& expected) {
  mx::array result = mx::contiguous(lazy);
  mx::eval(result);
  EXPECT_EQ(result.size(), expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(result.data<float>()[i] - expected[i]);
    worst = difference <= worst ? worst : difference;
  }
  return worst;
}

// (new tokens, all tokens) of each row: decode rows, short and long chunks, whole prompts, rows
// that end on a block's edge, all mixed.
const std::vector<std::vector<std::pair<int, int>>> kScenes = {
    {{1, 1}},
    {{1, 8}, {1, 9}, {1, 31}},
    {{5, 5}},
    {{40, 40}},
    {{3, 20}, {1, 16}, {17, 33}, {1, 2}, {70, 90}, {8, 8}},
};
const std::vector<AttentionParams> kParams = {
    {0.25f, 0, 0}, {0.25f, 5, 0}, {0.25f, 0, 2.0f}, {0.25f, 13, 1.0f}};

TEST(Attention, CpuEqualsItsDefinitionAndReadsNothingElse) {
  for (unsigned seed = 0; seed < kScenes.size(); ++seed) {
    const Scene scene = make_scene(kScenes[seed], seed);
    const auto plan = std::make_shared<AttentionPlan>(scene.segments, kBlock);
    ASSERT_TRUE(can_attention_cpu(scene.q, scene.kv));
    for (const AttentionParams& params : kParams) {
      const mx::array out = attention(scene.q, scene.kv, plan, params);
      EXPECT_LT(distance(out, brute_force(scene, params)), 3e-6)
          << "scene " << seed << " window " << params.window << " cap " << params.softcap;
    }
  }
}

// R-ENG-2: bit for bit, a row gets alone and in any chunks what it gets whole and among others.
TEST(Attention, CpuGivesTheSameBitsInAnyChunkAndBatch) {
  const Scene scene = make_scene(kScenes.back(), 3);
  for (const AttentionParams& params : kParams) {
    const auto compute = [&](const mx::array& q, const std::vector<Segment>& segments) {
      return attention(q, scene.kv, std::make_shared<AttentionPlan>(segments, kBlock), params);
    };
    const mx::array whole = compute(scene.q, scene.segments);
    for (const Segment& segment : scene.segments) {
      for (const int chunk : {1, 2, 7, 100}) {
        for (int done = 0; done < segment.q_len; done += chunk) {
          const int count = std::min(chunk, segment.q_len - done);
          Segment part = segment;
          part.q_start = 0;
          part.q_len = count;
          part.kv_len = segment.kv_len - segment.q_len + done + count;
          const int at = segment.q_start + done;
          const auto rows = [&](const mx::array& all) {
            return mx::slice(all, {at, 0, 0}, {at + count, all.shape(1), all.shape(2)});
          };
          EXPECT_TRUE(mx::array_equal(compute(rows(scene.q), {part}), rows(whole)).item<bool>())
              << "row of " << segment.q_len << " in chunks of " << chunk;
        }
      }
    }
  }
}

TEST(Attention, ReferenceEqualsItsDefinition) {
  for (unsigned seed = 0; seed < kScenes.size(); ++seed) {
    Scene scene = make_scene(kScenes[seed], seed);
    // In plain operations a masked position still meets a weight of zero, so it has to be a number.
    scene.kv.keys = mx::nan_to_num(scene.kv.keys);
    scene.kv.values = mx::nan_to_num(scene.kv.values);
    const AttentionPlan plan(scene.segments, kBlock);
    for (const AttentionParams& params : kParams) {
      const mx::array out = attention_reference(scene.q, scene.kv, plan, params);
      EXPECT_LT(distance(out, brute_force(scene, params)), 3e-6)
          << "scene " << seed << " window " << params.window << " cap " << params.softcap;
    }
  }
}

// Widths from 64 to 256 and beyond both ends, few and many heads to a key head, scales that are no
// 1/√width, windows of one position, of a block's width and longer than the row.
TEST(Attention, EqualsItsDefinitionForAnyHeads) {
  const std::vector<Shape> shapes = {
      {1, 1, 64}, {8, 1, 80}, {4, 4, 96}, {9, 3, 128}, {2, 1, 144}, {4, 2, 256}, {3, 3, 32}};
  const std::vector<AttentionParams> params = {{0.04f, 0, 0},
                                               {0.11f, 1, 0},
                                               {0.0833f, kBlock, 50.0f},
                                               {0.07f, 33, 5.0f},
                                               {0.09f, 1000, 0.5f}};
  unsigned seed = 0;
  for (const Shape& shape : shapes) {
    Scene scene = make_scene(kScenes.back(), ++seed, shape);
    const auto plan = std::make_shared<AttentionPlan>(scene.segments, kBlock);
    for (const AttentionParams& param : params) {
      const std::vector<double> expected = brute_force(scene, param);
      ASSERT_TRUE(can_attention_cpu(scene.q, scene.kv));
      EXPECT_LT(distance(attention(scene.q, scene.kv, plan, param), expected), 5e-6)
          << "width " << shape.width << " window " << param.window << " cap " << param.softcap;
      const KvLayer numbers{mx::nan_to_num(scene.kv.keys), mx::nan_to_num(scene.kv.values)};
      EXPECT_LT(distance(attention_reference(scene.q, numbers, *plan, param), expected), 5e-6)
          << "width " << shape.width << " window " << param.window << " cap " << param.softcap;
    }
  }
}

// Widths that the CPU kernel does not take go the way of plain operations.
TEST(Attention, OddWidthsEqualTheirDefinition) {
  for (const Shape& shape : {Shape{4, 2, 72}, Shape{3, 1, 100}}) {
    Scene scene = make_scene(kScenes.back(), 3, shape);
    scene.kv = {mx::nan_to_num(scene.kv.keys), mx::nan_to_num(scene.kv.values)};
    const auto plan = std::make_shared<AttentionPlan>(scene.segments, kBlock);
    ASSERT_FALSE(can_attention_cpu(scene.q, scene.kv));
    for (const AttentionParams& param : kParams) {
      EXPECT_LT(distance(attention(scene.q, scene.kv, plan, param), brute_force(scene, param)),
                5e-6);
    }
  }
}

TEST(Attention, HalfPrecisionStaysNear) {
  const AttentionParams params{0.1f, 21, 4.0f};
  Scene scene = make_scene(kScenes.back(), 5, {4, 2, 64});
  scene.kv = {mx::nan_to_num(scene.kv.keys), mx::nan_to_num(scene.kv.values)};
  const auto plan = std::make_shared<AttentionPlan>(scene.segments, kBlock);
  const auto half = [](const mx::array& x) { return mx::astype(x, mx::bfloat16); };
  const KvLayer pool{half(scene.kv.keys), half(scene.kv.values)};
  const mx::array out = attention(half(scene.q), pool, plan, params);
  EXPECT_EQ(out.dtype(), mx::bfloat16);
  EXPECT_LT(distance(mx::astype(out, mx::float32), brute_force(scene, params)), 0.03);
}

TEST(Attention, RefusesShapesThatDisagree) {
  const Scene scene = make_scene({{2, 2}}, 1);
  const auto plan = std::make_shared<AttentionPlan>(scene.segments, kBlock);
  EXPECT_THROW((void)attention(mx::zeros({3, kSmall.heads, kSmall.width}), scene.kv, plan, {}),
               std::invalid_argument);
  EXPECT_THROW((void)attention(mx::zeros({2, 5, kSmall.width}), scene.kv, plan, {}),
               std::invalid_argument);
}

}  // namespace
}  // namespace mlxs::engine
