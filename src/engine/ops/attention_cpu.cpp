// Attention on CPU over float32 blocks, read where they lie.
//
// Two ways through a row. A decode row (or a very short chunk) is bound by reading keys and values
// once, so each query head walks the row's blocks with dot products and sums. A longer chunk is
// bound by arithmetic: tiles of its queries meet whole blocks in matrix products, a head at a time.
// Neither looks at a position past the one it is for, nor at another row.

#include "engine/ops/attention_cpu.h"

#include "base/assert.h"
#include "engine/ops/cpu_op.h"
#include "engine/ops/lanes.h"
#include "engine/ops/parallel.h"
#include "engine/ops/row_kernels.h"

#ifdef MLXS_OPENBLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

#ifdef MLXS_OPENBLAS

namespace {

constexpr int kQueriesForProducts = 8;  // From this many queries of a row on, matrix products pay.
constexpr int kQueryTile = 64;
constexpr std::int64_t kParallelCostMin = 1 << 18;  // Some 20 µs of one core.

/// Everything the kernels read, by value: they run on MLX's stream thread.
struct Job {
  const float* q;
  const float* keys;
  const float* values;
  float* out;
  std::int64_t q_token_stride, q_head_stride;  ///< In elements.
  int heads, kv_heads, head_dim, block_tokens;
  AttentionParams params;

  [[nodiscard]] const float* query(int token, int head) const {
    return q + token * q_token_stride + head * q_head_stride;
  }
  [[nodiscard]] float* result(int token, int head) const {
    return out + (std::int64_t{token} * heads + head) * head_dim;
  }
  /// A key head's [block_tokens, head_dim] within a block.
  [[nodiscard]] const float* matrix(const float* pool, std::int32_t block, int kv_head) const {
    return pool + (std::int64_t{block} * kv_heads + kv_head) * block_tokens * head_dim;
  }
  /// First position that a query at `position` sees.
  [[nodiscard]] int first_seen(int position) const {
    return params.window == 0 ? 0 : std::max(0, position - params.window + 1);
  }
};

/// Turns scores[first, last) into weights that sum to one.
void softmax(const AttentionParams& params, float* scores, int first, int last) {
  for (int i = first; i < last; ++i) scores[i] *= params.scale;
  if (params.softcap != 0) softcap_row(scores + first, last - first, params.softcap);
  softmax_row(scores + first, last - first);
}

/// One query of one head.
void attend_one(const Job& job,
                const AttentionPlan::Row& row,
                int index,
                int head,
                std::vector<float>& scores) {
  const int position = row.kv_len - row.q_len + index;
  const int first = job.first_seen(position);
  const int kv_head = head / (job.heads / job.kv_heads);
  const float* query = job.query(row.q_start + index, head);
  float* out = job.result(row.q_start + index, head);
  scores.resize(static_cast<std::size_t>(position) + 1);
  const auto for_blocks = [&](const auto& visit) {
    for (int at = first; at <= position;) {
      const int block = at / job.block_tokens;
      const int end = std::min(position + 1, (block + 1) * job.block_tokens);
      visit(row.blocks[static_cast<std::size_t>(block)], at, end - at);
      at = end;
    }
  };
  for_blocks([&](std::int32_t block, int at, int count) {
    const float* rows = job.matrix(job.keys, block, kv_head) + at % job.block_tokens * job.head_dim;
    dot_rows(query, rows, count, job.head_dim, scores.data() + at);
  });
  softmax(job.params, scores.data(), first, position + 1);
  std::fill_n(out, job.head_dim, 0.0f);
  for_blocks([&](std::int32_t block, int at, int count) {
    const float* rows =
        job.matrix(job.values, block, kv_head) + at % job.block_tokens * job.head_dim;
    add_weighted_rows(scores.data() + at, rows, count, job.head_dim, out);
  });
}

/// `count` queries of one head from `index` on.
void attend_tile(const Job& job,
                 const AttentionPlan::Row& row,
                 int index,
                 int count,
                 int head,
                 std::vector<float>& scores) {
  const int first_position = row.kv_len - row.q_len + index;
  const int kv_len = first_position + count;
  const int first_block = job.first_seen(first_position) / job.block_tokens;
  const int start = first_block * job.block_tokens;
  const int width = kv_len - start;  // Columns of `scores`; column 0 is position `start`.
  const int kv_head = head / (job.heads / job.kv_heads);
  scores.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(width));
  const auto for_blocks = [&](const auto& visit) {
    for (int at = start; at < kv_len; at += job.block_tokens) {
      visit(row.blocks[static_cast<std::size_t>(at / job.block_tokens)],
            at - start,
            std::min(job.block_tokens, kv_len - at));
    }
  };
  for_blocks([&](std::int32_t block, int column, int columns) {
    cblas_sgemm(CblasRowMajor,
                CblasNoTrans,
                CblasTrans,
                count,
                columns,
                job.head_dim,
                1.0f,
                job.query(row.q_start + index, head),
                static_cast<blasint>(job.q_token_stride),
                job.matrix(job.keys, block, kv_head),
                job.head_dim,
                0.0f,
                scores.data() + column,
                width);
  });
  for (int i = 0; i < count; ++i) {
    float* line = scores.data() + static_cast<std::ptrdiff_t>(i) * width;
    const int first = job.first_seen(first_position + i) - start;
    const int last = first_position + i + 1 - start;
    softmax(job.params, line, first, last);
    std::fill(line, line + first, 0.0f);
    std::fill(line + last, line + width, 0.0f);
  }
  const int out_stride = job.heads * job.head_dim;
  for_blocks([&](std::int32_t block, int column, int columns) {
    cblas_sgemm(CblasRowMajor,
                CblasNoTrans,
                CblasNoTrans,
                count,
                job.head_dim,
                columns,
                1.0f,
                scores.data() + column,
                width,
                job.matrix(job.values, block, kv_head),
                job.head_dim,
                column == 0 ? 0.0f : 1.0f,
                job.result(row.q_start + index, head),
                out_stride);
  });
}

/// A piece of work: some queries of a row, for one head or for all that share a key head.
struct Piece {
  const AttentionPlan::Row* row;
  int index, count;
  int first_head, last_head;
};

void attend(const Job& job, const AttentionPlan& plan) {
  std::vector<Piece> pieces;
  std::int64_t cost = 0;
  for (const AttentionPlan::Row& row : plan.rows()) {
    const bool tiles = row.q_len >= kQueriesForProducts;
    const int heads = tiles ? 1 : job.heads / job.kv_heads;
    for (int i = 0; i < row.q_len; i += kQueryTile) {
      const int count = std::min(kQueryTile, row.q_len - i);
      for (int head = 0; head < job.heads; head += heads) {
        pieces.push_back({&row, i, count, head, head + heads});
      }
    }
    cost += std::int64_t{row.q_len} * row.kv_len * job.heads * job.head_dim;
  }
  const auto compute = [&](int number) {
    thread_local std::vector<float> scores;
    const Piece& piece = pieces[static_cast<std::size_t>(number)];
    if (piece.row->q_len >= kQueriesForProducts) {
      attend_tile(job, *piece.row, piece.index, piece.count, piece.first_head, scores);
      return;
    }
    for (int head = piece.first_head; head < piece.last_head; ++head) {
      for (int i = 0; i < piece.count; ++i) {
        attend_one(job, *piece.row, piece.index + i, head, scores);
      }
    }
  };
  const int count = static_cast<int>(pieces.size());
  if (cost < kParallelCostMin) {
    for (int i = 0; i < count; ++i) compute(i);
  } else {
    parallel_for(count, compute);
  }
}

/// inputs: q, keys, values.
struct AttentionKernel {
  std::shared_ptr<const AttentionPlan> plan;
  AttentionParams params;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& q = inputs[0];
    const CpuInput& keys = inputs[1];
    const Job job{.q = q.as<float>(),
                  .keys = keys.as<float>(),
                  .values = inputs[2].as<float>(),
                  .out = out,
                  .q_token_stride = q.strides[0],
                  .q_head_stride = q.strides[1],
                  .heads = q.shape[1],
                  .kv_heads = keys.shape[1],
                  .head_dim = q.shape[2],
                  .block_tokens = keys.shape[2],
                  .params = params};
    attend(job, *plan);
  }
};

}  // namespace

bool can_attention_cpu(const mx::array& q, const KvLayer& kv) {
  return on_cpu_float32(q) && kv.keys.dtype() == mx::float32 && q.shape(2) % kLanes == 0;
}

mx::array attention_cpu(const mx::array& q,
                        const KvLayer& kv,
                        const std::shared_ptr<const AttentionPlan>& plan,
                        const AttentionParams& params) {
  MLXS_ASSERT(can_attention_cpu(q, kv));
  return cpu_op(
      "mlxs::Attention", q.shape(), {q, kv.keys, kv.values}, AttentionKernel{plan, params});
}

#else

bool can_attention_cpu(const mx::array&, const KvLayer&) { return false; }

mx::array attention_cpu(const mx::array& q,
                        const KvLayer& kv,
                        const std::shared_ptr<const AttentionPlan>& plan,
                        const AttentionParams& params) {
  return attention_reference(q, kv, *plan, params);
}

#endif

}  // namespace mlxs::engine
