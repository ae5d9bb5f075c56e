// A piece of work is some queries of a row and the heads that share a key head: they meet the row's
// blocks together, so that keys are read and turned once for all of them. Nothing looks at a
// position past the row's, nor at another row, and a query's arithmetic is the same whoever it
// meets blocks with: decode rows, chunks of any size and batches give the same bits.

#include "engine/ops/attention_cpu.h"

#include "base/assert.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu_op.h"
#include "engine/ops/lanes.h"
#include "engine/ops/parallel.h"
#include "engine/ops/row_kernels.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

constexpr int kQueriesMax =
    32;  // In a piece; turning a block's keys takes as long as four or five.
constexpr std::int64_t kParallelCostMin = 1 << 18;  // Some 20 µs of one core.

/// Turns scores[first, last) into weights that sum to one.
void softmax(const AttentionParams& params, float* scores, int first, int last) {
  for (int i = first; i < last; ++i) scores[i] *= params.scale;
  if (params.softcap != 0) softcap_row(scores + first, last - first, params.softcap);
  softmax_row(scores + first, last - first);
}

/// Memory of a thread's pieces: grows and stays.
struct Scratch {
  std::vector<const float*> queries;
  std::vector<float*> results;
  std::vector<float> scores;
};

void attend(const AttentionJob& job, const AttentionPiece& piece, Scratch& scratch) {
  const AttentionPlan::Row& row = *piece.row;
  const int group = job.heads / job.kv_heads;
  const int first_position = row.kv_len - row.q_len + piece.index;
  const int kv_len = first_position + piece.count;
  const int start = job.first_seen(first_position) / job.block_tokens * job.block_tokens;
  // Of a line of scores, whose first is position `start`: whole blocks.
  const int width = (kv_len - start + job.block_tokens - 1) / job.block_tokens * job.block_tokens;
  scratch.queries.clear();
  scratch.results.clear();
  for (int i = 0; i < piece.count; ++i) {
    for (int head = piece.kv_head * group; head < (piece.kv_head + 1) * group; ++head) {
      scratch.queries.push_back(job.query(row.q_start + piece.index + i, head));
      scratch.results.push_back(job.result(row.q_start + piece.index + i, head));
      std::fill_n(scratch.results.back(), job.head_dim, 0.0f);
    }
  }
  const int lines = piece.count * group;
  const std::size_t size = static_cast<std::size_t>(lines) * static_cast<std::size_t>(width);
  if (scratch.scores.size() < size) scratch.scores.resize(size);
  float* const scores = scratch.scores.data();
  const auto for_blocks = [&](const auto& visit) {
    for (int at = start; at < kv_len; at += job.block_tokens) {
      visit(row.blocks[static_cast<std::size_t>(at / job.block_tokens)],
            at - start,
            std::min(job.block_tokens, kv_len - at));
    }
  };
  const AttentionKernels& kernels = *product_kernels().attention;
  for_blocks([&](std::int32_t block, int column, int columns) {
    if (job.halves) {
      kernels.score(scratch.queries.data(),
                    lines,
                    job.matrix<std::uint16_t>(job.keys, block, piece.kv_head),
                    job.head_dim,
                    scores + column,
                    width);
      return;
    }
    score_rows(scratch.queries.data(),
               lines,
               job.matrix<float>(job.keys, block, piece.kv_head),
               columns,
               job.head_dim,
               scores + column,
               width);
  });
  for (int i = 0; i < lines; ++i) {
    float* line = scores + static_cast<std::ptrdiff_t>(i) * width;
    const int position = first_position + i / group;
    const int first = job.first_seen(position) - start;
    const int last = position + 1 - start;
    softmax(job.params, line, first, last);
    std::fill(line, line + first, 0.0f);
    std::fill(line + last, line + width, 0.0f);
  }
  for_blocks([&](std::int32_t block, int column, int columns) {
    if (job.halves) {
      kernels.add_weighted(scores + column,
                           width,
                           lines,
                           job.matrix<std::uint16_t>(job.values, block, piece.kv_head),
                           columns,
                           job.head_dim,
                           scratch.results.data());
      return;
    }
    add_weighted_rows(scores + column,
                      width,
                      lines,
                      job.matrix<float>(job.values, block, piece.kv_head),
                      columns,
                      job.head_dim,
                      scratch.results.data());
  });
}

/// inputs: q, keys, values.
struct AttentionKernel {
  std::shared_ptr<const AttentionPlan> plan;
  std::shared_ptr<const AttentionPieces> pieces;
  AttentionParams params;

  void operator()(const std::vector<CpuInput>& inputs, float* out) const {
    const CpuInput& q = inputs[0];
    const CpuInput& keys = inputs[1];
    const AttentionJob job{.q = q.as<float>(),
                           .keys = keys.as<float>(),
                           .values = inputs[2].as<float>(),
                           .halves = false,
                           .out = out,
                           .q_token_stride = q.strides[0],
                           .q_head_stride = q.strides[1],
                           .heads = q.shape[1],
                           .kv_heads = keys.shape[1],
                           .head_dim = q.shape[2],
                           .block_tokens = keys.shape[2],
                           .params = params};
    attend(job, *pieces);
  }
};

}  // namespace

AttentionPieces::AttentionPieces(const AttentionPlan& plan, int heads, int kv_heads) {
  const int step = std::max(1, kQueriesMax / (heads / kv_heads));
  for (const AttentionPlan::Row& row : plan.rows()) {
    for (int i = 0; i < row.q_len; i += step) {
      for (int head = 0; head < kv_heads; ++head) {
        pieces_.push_back({&row, i, std::min(step, row.q_len - i), head});
      }
    }
    scores_ += std::int64_t{row.q_len} * row.kv_len * heads;
  }
}

void attend(const AttentionJob& job, const AttentionPieces& pieces) {
  const auto compute = [&](int number) {
    thread_local Scratch scratch;
    attend(job, pieces.pieces()[static_cast<std::size_t>(number)], scratch);
  };
  const int count = static_cast<int>(pieces.pieces().size());
  if (pieces.scores() * job.head_dim < kParallelCostMin) {
    for (int i = 0; i < count; ++i) compute(i);
  } else {
    parallel_for(count, compute);
  }
}

bool can_attention_cpu(const mx::array& q, const KvLayer& kv) {
  return on_cpu_float32(q) && kv.keys.dtype() == mx::float32 && q.shape(2) % kLanes == 0;
}

std::shared_ptr<const AttentionPieces> attention_pieces(
    const std::shared_ptr<const AttentionPlan>& plan, int heads, int kv_heads) {
  return plan->for_backend<AttentionPieces>(
      [&] { return AttentionPieces(*plan, heads, kv_heads); });
}

mx::array attention_cpu(const mx::array& q,
                        const KvLayer& kv,
                        const std::shared_ptr<const AttentionPlan>& plan,
                        const AttentionParams& params) {
  MLXS_ASSERT(can_attention_cpu(q, kv));
  return cpu_op(
      "mlxs::Attention",
      q.shape(),
      {q, kv.keys, kv.values},
      AttentionKernel{plan, attention_pieces(plan, q.shape(1), kv.keys.shape(1)), params});
}

}  // namespace mlxs::engine
