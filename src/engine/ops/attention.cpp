#include "engine/ops/attention.h"

#include "engine/ops/attention_cpu.h"
#ifdef MLXS_CUDA
#include "engine/ops/cuda/attention.h"
#endif

#include <stdexcept>

namespace mlxs::engine {

namespace mx = mlx::core;

mx::array attention(const mx::array& q,
                    const KvLayer& kv,
                    const std::shared_ptr<const AttentionPlan>& plan,
                    const AttentionParams& params) {
  if (q.ndim() != 3 || kv.keys.ndim() != 4 || q.shape(0) != plan->tokens() ||
      q.shape(2) != kv.keys.shape(3) || q.shape(1) % kv.keys.shape(1) != 0 ||
      kv.keys.shape(2) != plan->block_tokens() || kv.keys.shape() != kv.values.shape()) {
    throw std::invalid_argument("[attention] queries, pool and plan do not fit each other");
  }
#ifdef MLXS_CUDA
  if (cuda::can_attention(q, kv)) return cuda::attention(q, kv, plan, params);
#endif
  if (can_attention_cpu(q, kv)) return attention_cpu(q, kv, plan, params);
  return attention_reference(q, kv, *plan, params);
}

}  // namespace mlxs::engine
