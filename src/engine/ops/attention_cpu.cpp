// Attention on CPU over float32 blocks, read where they lie.
//
// Two ways through a row. A decode row (or a very short chunk) is bound by reading keys and values
// once, so each query head walks the row's blocks with dot products and sums. A longer chunk is
// bound by arithmetic: tiles of its queries meet whole blocks in matrix products, a head at a time.
// Neither looks at a position past the one it is for, nor at another row.

#include "engine/ops/attention_cpu.h"

#include "base/assert.h"

#include <mlx/allocator.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#ifdef MLXS_OPENBLAS
#include <cblas.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

#ifdef MLXS_OPENBLAS

namespace {

// Chosen at load time for the machine at hand; the plain one is the baseline of the architecture.
#if defined(__x86_64__) && defined(__GNUC__)
#define MLXS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MLXS_CLONES
#endif

constexpr int kLanes = 16;
constexpr int kQueriesForProducts = 8;  // From this many queries of a row on, matrix products pay.
constexpr int kQueryTile = 64;

using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

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

/// scores[i] = q · rows[i] for `count` rows of `width` (a multiple of kLanes).
MLXS_CLONES void dot_rows(const float* q, const float* rows, int count, int width, float* scores) {
  for (int i = 0; i < count; ++i) {
    Lanes sum{};
    for (int d = 0; d < width; d += kLanes) {
      Lanes a;
      Lanes b;
      std::memcpy(&a, q + d, sizeof a);
      std::memcpy(&b, rows + static_cast<std::ptrdiff_t>(i) * width + d, sizeof b);
      sum += a * b;
    }
    float total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
    scores[i] = total;
  }
}

/// out += sum of weights[i] · rows[i].
MLXS_CLONES void add_weighted_rows(
    const float* weights, const float* rows, int count, int width, float* out) {
  for (int d = 0; d < width; d += kLanes) {
    Lanes sum;
    std::memcpy(&sum, out + d, sizeof sum);
    for (int i = 0; i < count; ++i) {
      Lanes value;
      std::memcpy(&value, rows + static_cast<std::ptrdiff_t>(i) * width + d, sizeof value);
      sum += value * weights[i];
    }
    std::memcpy(out + d, &sum, sizeof sum);
  }
}

/// Turns scores[first, last) into weights that sum to one.
void softmax(const AttentionParams& params, float* scores, int first, int last) {
  float best = -std::numeric_limits<float>::infinity();
  for (int i = first; i < last; ++i) {
    scores[i] *= params.scale;
    if (params.softcap != 0) scores[i] = params.softcap * std::tanh(scores[i] / params.softcap);
    best = std::max(best, scores[i]);
  }
  float sum = 0;
  for (int i = first; i < last; ++i) {
    scores[i] = std::exp(scores[i] - best);
    sum += scores[i];
  }
  const float inverse = 1.0f / sum;
  for (int i = first; i < last; ++i) scores[i] *= inverse;
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

void attend(const Job& job, const AttentionPlan& plan) {
  std::vector<float> scores;
  for (const AttentionPlan::Row& row : plan.rows()) {
    for (int head = 0; head < job.heads; ++head) {
      if (row.q_len < kQueriesForProducts) {
        for (int i = 0; i < row.q_len; ++i) attend_one(job, row, i, head, scores);
        continue;
      }
      for (int i = 0; i < row.q_len; i += kQueryTile) {
        attend_tile(job, row, i, std::min(kQueryTile, row.q_len - i), head, scores);
      }
    }
  }
}

/// inputs: q, keys, values.
class AttentionCpu : public mx::UnaryPrimitive {
 public:
  AttentionCpu(mx::Stream stream, std::shared_ptr<const AttentionPlan> plan, AttentionParams params)
      : mx::UnaryPrimitive(stream), plan_(std::move(plan)), params_(params) {}

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override {
    const mx::array& q = inputs[0];
    const mx::array& keys = inputs[1];
    MLXS_ASSERT(q.strides(2) == 1);
    out.set_data(mx::allocator::malloc(out.nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    for (const mx::array& input : inputs) encoder.set_input_array(input);
    encoder.set_output_array(out);
    const Job job{.q = q.data<float>(),
                  .keys = keys.data<float>(),
                  .values = inputs[2].data<float>(),
                  .out = out.data<float>(),
                  .q_token_stride = q.strides(0),
                  .q_head_stride = q.strides(1),
                  .heads = q.shape(1),
                  .kv_heads = keys.shape(1),
                  .head_dim = q.shape(2),
                  .block_tokens = keys.shape(2),
                  .params = params_};
    encoder.dispatch([job, plan = plan_] { attend(job, *plan); });
  }
  void eval_gpu(const std::vector<mx::array>&, mx::array&) override {
    throw std::logic_error("attention's CPU primitive runs on CPU only");
  }
  const char* name() const override { return "mlxs::AttentionCpu"; }

 private:
  std::shared_ptr<const AttentionPlan> plan_;
  AttentionParams params_;
};

}  // namespace

bool can_attention_cpu(const mx::array& q, const KvLayer& kv) {
  return mx::default_device() == mx::Device::cpu && q.dtype() == mx::float32 &&
         kv.keys.dtype() == mx::float32 && q.shape(2) % kLanes == 0;
}

mx::array attention_cpu(const mx::array& q,
                        const KvLayer& kv,
                        const std::shared_ptr<const AttentionPlan>& plan,
                        const AttentionParams& params) {
  MLXS_ASSERT(can_attention_cpu(q, kv));
  return mx::array(
      q.shape(),
      mx::float32,
      std::make_shared<AttentionCpu>(mx::default_stream(mx::Device::cpu), plan, params),
      {q, kv.keys, kv.values});
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
