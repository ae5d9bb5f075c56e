#pragma once

#include "engine/ops/kv.h"

namespace mlxs::engine::cuda {

/// Whether the kernel takes them: heads of whole 16-byte words, in dense rows.
[[nodiscard]] bool can_kv_append(const KvLayer& pool);

/// ops/kv.h's kv_append on the GPU: writes into the pool where it lies.
[[nodiscard]] KvLayer kv_append(const KvLayer& pool,
                                const mlx::core::array& keys,
                                const mlx::core::array& values,
                                const mlx::core::array& slots);

}  // namespace mlxs::engine::cuda
