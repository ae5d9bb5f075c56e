#pragma once

#include <mlx/array.h>

namespace mlxs::engine {

/// One layer's part of the KV pool: keys and values [blocks, Hkv, block_tokens, D]. Heads come
/// before positions, so that a head's keys within a block are one contiguous matrix.
struct KvLayer {
  mlx::core::array keys;
  mlx::core::array values;
};

/// Writes the keys and values of new tokens into their slots and returns the pool as it is then.
///   keys, values  [T, Hkv, D]  the pool's dtype
///   slots         [T] int32    block · block_tokens + position in the block; no two alike
/// On CPU the result shares the pool's memory, written in place: whoever reads the pool of before
/// sees the new contents too, so only results may be used further. Elsewhere a scatter. Lazy.
[[nodiscard]] KvLayer kv_append(const KvLayer& pool,
                                const mlx::core::array& keys,
                                const mlx::core::array& values,
                                const mlx::core::array& slots);

}  // namespace mlxs::engine
