#include "engine/ops/attention.h"

#include <mlx/ops.h>

#include <limits>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// [B, 1, 1, L, S]: whether query l of row b sees position s.
mx::array visible(const AttentionPlan::Group& group, int window) {
  const mx::array query = mx::expand_dims(group.q_position, {1, 2, 4});
  const mx::array key = mx::expand_dims(group.kv_position, {1, 2, 3});
  const mx::array causal = mx::less_equal(key, query);
  if (window == 0) return causal;
  return mx::logical_and(causal, mx::greater(key, mx::subtract(query, mx::array(window))));
}

/// q [B·L, Hq, D] → [B·L, Hq, D] over one group.
mx::array group_attention(const mx::array& q,
                          const KvLayer& kv,
                          const AttentionPlan::Group& group,
                          const AttentionParams& params) {
  const int rows = group.rows;
  const int queries = group.queries;
  const int blocks = group.table.shape(1);
  const int kv_heads = kv.keys.shape(1);
  const int block_tokens = kv.keys.shape(2);
  const int width = kv.keys.shape(3);
  const int shared = q.shape(1) / kv_heads;  // Query heads per key head.

  // [B, N, Hkv, G·L, D] against [B, N, Hkv, D, block]: one small product a block and head.
  mx::array queries_by_head = mx::reshape(q, {rows, queries, kv_heads, shared, width});
  queries_by_head = mx::reshape(mx::transpose(queries_by_head, {0, 2, 3, 1, 4}),
                                {rows, 1, kv_heads, shared * queries, width});
  const mx::array keys = mx::take(kv.keys, group.table, 0);
  mx::array scores = mx::matmul(mx::astype(queries_by_head, mx::float32),
                                mx::swapaxes(mx::astype(keys, mx::float32), -1, -2));
  scores = mx::multiply(scores, mx::array(params.scale));
  if (params.softcap != 0) {
    const mx::array cap(params.softcap);
    scores = mx::multiply(mx::tanh(mx::divide(scores, cap)), cap);
  }
  // [B, Hkv, G, L, N·block]
  scores = mx::reshape(mx::transpose(scores, {0, 2, 3, 1, 4}),
                       {rows, kv_heads, shared, queries, blocks * block_tokens});
  const mx::array minus_infinity(-std::numeric_limits<float>::infinity());
  scores = mx::where(visible(group, params.window), scores, minus_infinity);
  mx::array weights = mx::softmax(scores, -1, true);
  weights =
      mx::transpose(mx::reshape(weights, {rows, kv_heads, shared * queries, blocks, block_tokens}),
                    {0, 3, 1, 2, 4});
  const mx::array values = mx::take(kv.values, group.table, 0);
  mx::array out = mx::sum(mx::matmul(weights, mx::astype(values, mx::float32)), 1);
  out = mx::transpose(mx::reshape(out, {rows, kv_heads, shared, queries, width}), {0, 3, 1, 2, 4});
  return mx::astype(mx::reshape(out, {rows * queries, kv_heads * shared, width}), q.dtype());
}

}  // namespace

mx::array attention_reference(const mx::array& q,
                              const KvLayer& kv,
                              const AttentionPlan& plan,
                              const AttentionParams& params) {
  const auto& groups = plan.groups();
  // A step of decode rows only, or of one chunk, is in packed order already.
  if (groups.size() == 1) return group_attention(q, kv, groups.front(), params);
  std::vector<mx::array> parts;
  for (const auto& group : groups) {
    parts.push_back(group_attention(mx::take(q, group.q_index, 0), kv, group, params));
  }
  return mx::take(mx::concatenate(std::move(parts), 0), plan.order(), 0);
}

}  // namespace mlxs::engine
