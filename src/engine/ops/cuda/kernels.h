#pragma once

// Arguments of our CUDA kernels, as host and device see them. Pointers are the device's. Plain C++:
// nvcc and the host's compiler both read it. Strides count elements.

namespace mlxs::engine::cuda {

/// Rows [tokens, heads, width] into both arrays of a key/value pool, as kv_append in ops/kv.h.
/// One thread block a token and array; a head's row is `row_words` words of 16 bytes.
struct KvAppendArgs {
  const void* rows[2];
  void* pool[2];
  const int* slots;
  long long token_stride[2], head_stride[2];  ///< In words of 16 bytes.
  int heads, block_tokens, row_words;
};

/// Some queries of a row against some of its positions; a thread block a piece and key head.
/// Queries of the heads that share the key head stand side by side in a tile of kQueryTile rows.
struct AttentionPiece {
  int token;     ///< The first query's packed index.
  int tokens;    ///< tokens · (heads / kv_heads) <= kQueryTile.
  int position;  ///< Of the first query.
  int kv_begin;  ///< Positions [kv_begin, kv_end), kv_begin a multiple of kKeyTile.
  int kv_end;
  int table;    ///< Where the row's blocks begin in the table.
  int partial;  ///< Which part of the scratch takes the result; -1: it is the whole result.
  int unused;
};

/// Partial results of some queries, to be put together.
struct AttentionMerge {
  int token, tokens;
  int partial, partials;  ///< Parts [partial, partial + partials) of the scratch.
};

inline constexpr int kQueryTile = 16;
inline constexpr int kKeyTile = 16;
inline constexpr int kAttentionWarps = 4;

struct AttentionArgs {
  const void* q;
  const void* keys;
  const void* values;
  void* out;
  const AttentionPiece* pieces;
  const int* table;
  float* partials;  ///< [part, kv_heads, kQueryTile, width + 2]: sums, maximum, weight.
  long long q_token_stride, q_head_stride;
  int heads, kv_heads, block_tokens;
  float scale;
  float softcap;  ///< 0: off.
  int window;     ///< 0: off.
};

struct AttentionMergeArgs {
  const float* partials;
  void* out;
  const AttentionMerge* merges;
  int heads, kv_heads;
};

/// Shared memory of an attention kernel: queries, and two key and value tiles a warp; rows are
/// padded by 16 bytes so that eight of them lie in different banks. The sums that warps exchange at
/// the end reuse it.
constexpr unsigned attention_shared_bytes(int width) {
  const int row = (width + 8) * 2;
  const int tiles = kQueryTile * row + kAttentionWarps * 2 * 2 * kKeyTile * row;
  const int sums = kAttentionWarps * kQueryTile * (width + 2) * 4;
  return static_cast<unsigned>(tiles > sums ? tiles : sums);
}

}  // namespace mlxs::engine::cuda
