#pragma once

#include "engine/ops/attention.h"

#include <memory>

namespace mlxs::engine {

/// Whether `attention_cpu` takes these: float32, on CPU, heads of a multiple of 16.
[[nodiscard]] bool can_attention_cpu(const mlx::core::array& q, const KvLayer& kv);

/// `attention` as one primitive that reads keys and values where they lie in the pool. A query's
/// bits depend on its own row only, not on the chunk or batch it comes in.
[[nodiscard]] mlx::core::array attention_cpu(const mlx::core::array& q,
                                             const KvLayer& kv,
                                             const std::shared_ptr<const AttentionPlan>& plan,
                                             const AttentionParams& params);

}  // namespace mlxs::engine
