// Attention and kv_append on the device.

#include "engine/ops/cuda/device.cuh"
#include "engine/ops/cuda/kernels.h"

using namespace mlxs::engine::cuda;

namespace {

constexpr float kNothing = -1e30f;  // Below every score, and finite: differences stay numbers.

__device__ float over_quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}
__device__ float over_quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

// Flash attention (arXiv:2205.14135) of one piece for one key head. Each warp takes every fourth
// tile of keys and keeps sums of its own; they are put together at the end.
template <class T, int kWidth>
__device__ void attend(const AttentionArgs& args) {
  constexpr int kRow = kWidth + 8;        // Of a tile in shared memory, padded.
  constexpr int kTile = kKeyTile * kRow;  // Elements.
  constexpr int kChunks = kWidth / 8;     // Copies of 16 bytes a row.
  extern __shared__ __align__(16) unsigned char shared[];
  T* const queries = reinterpret_cast<T*>(shared);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  T* const tiles = queries + kQueryTile * kRow + warp * 4 * kTile;

  const AttentionPiece piece = args.pieces[blockIdx.x];
  const int kv_head = blockIdx.y;
  const int group = args.heads / args.kv_heads;
  const int rows = piece.tokens * group;
  const int last_position = piece.position + piece.tokens - 1;

  for (int i = threadIdx.x; i < kQueryTile * kChunks; i += blockDim.x) {
    const int row = i / kChunks;
    uint4 words = {0, 0, 0, 0};
    if (row < rows) {
      const int token = piece.token + row / group;
      const int head = kv_head * group + row % group;
      const T* from = static_cast<const T*>(args.q) + token * args.q_token_stride +
                      head * args.q_head_stride + (i % kChunks) * 8;
      words = *reinterpret_cast<const uint4*>(from);
    }
    *reinterpret_cast<uint4*>(queries + row * kRow + (i % kChunks) * 8) = words;
  }

  int begin = piece.kv_begin;
  if (args.window > 0) {
    const int seen = max(0, piece.position - args.window + 1) / kKeyTile * kKeyTile;
    begin = max(begin, seen);
  }
  const int end = min(piece.kv_end, last_position + 1);
  const long long head_size = static_cast<long long>(args.block_tokens) * kWidth;
  const auto fetch = [&](int first, int stage) {
    const long long block = args.table[piece.table + first / args.block_tokens];
    const long long at = (block * args.kv_heads + kv_head) * head_size +
                         static_cast<long long>(first % args.block_tokens) * kWidth;
    const T* const keys = static_cast<const T*>(args.keys) + at;
    const T* const values = static_cast<const T*>(args.values) + at;
    T* const to = tiles + stage * 2 * kTile;
    for (int i = lane; i < kKeyTile * kChunks; i += 32) {
      const int offset = (i / kChunks) * kRow + (i % kChunks) * 8;
      copy_async(shared_address(to + offset), keys + i * 8);
      copy_async(shared_address(to + kTile + offset), values + i * 8);
    }
  };

  float sums[kWidth / 8][4];
#pragma unroll
  for (int i = 0; i < kWidth / 8; ++i)
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[i][k] = 0;
  float best[2] = {kNothing, kNothing};
  float weight[2] = {0, 0};

  const int step = kAttentionWarps * kKeyTile;
  int first = begin + warp * kKeyTile;
  if (first < end) fetch(first, 0);
  copies_committed();
  __syncthreads();  // The queries are there.

  int stage = 0;
  for (; first < end; first += step, stage ^= 1) {
    if (first + step < end) fetch(first + step, stage ^ 1);
    copies_committed();
    copies_wait<1>();
    __syncwarp();
    const T* const keys = tiles + stage * 2 * kTile;
    const T* const values = keys + kTile;

    float scores[2][4] = {};
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      unsigned a[4];
      load_matrices(a, shared_address(queries + (lane % 16) * kRow + k * 16 + (lane / 16) * 8));
      unsigned b[4];
      const int row = lane % 8 + (lane / 16) * 8;
      load_matrices(b, shared_address(keys + row * kRow + k * 16 + ((lane / 8) % 2) * 8));
      Pair<T>::product(scores[0], a, b[0], b[1]);
      Pair<T>::product(scores[1], a, b[2], b[3]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + half * 8;
      const int position = piece.position + row / group;
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float& score = scores[tile][half * 2 + k];
          const int key = first + tile * 8 + (lane % 4) * 2 + k;
          score *= args.scale;
          if (args.softcap > 0) score = args.softcap * tanhf(score / args.softcap);
          const bool seen = row < rows && key < end && key <= position &&
                            (args.window == 0 || key > position - args.window);
          if (!seen) score = kNothing;
        }
      }
      float& at_best = best[half];
      const float tile_best = fmaxf(fmaxf(scores[0][half * 2], scores[0][half * 2 + 1]),
                                    fmaxf(scores[1][half * 2], scores[1][half * 2 + 1]));
      const float now = fmaxf(at_best, over_quad_max(tile_best));
      const float shrink = __expf(at_best - now);
      at_best = now;
      float added = 0;
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float& score = scores[tile][half * 2 + k];
          score = score <= kNothing ? 0.0f : __expf(score - now);
          added += score;
        }
      }
      weight[half] = weight[half] * shrink + over_quad_sum(added);
#pragma unroll
      for (int i = 0; i < kWidth / 8; ++i) {
        sums[i][half * 2] *= shrink;
        sums[i][half * 2 + 1] *= shrink;
      }
    }
    const unsigned a[4] = {Pair<T>::pack(scores[0][0], scores[0][1]),
                           Pair<T>::pack(scores[0][2], scores[0][3]),
                           Pair<T>::pack(scores[1][0], scores[1][1]),
                           Pair<T>::pack(scores[1][2], scores[1][3])};
#pragma unroll
    for (int i = 0; i < kWidth / 16; ++i) {
      unsigned b[4];
      load_matrices_transposed(
          b, shared_address(values + (lane % 16) * kRow + i * 16 + (lane / 16) * 8));
      Pair<T>::product(sums[2 * i], a, b[0], b[1]);
      Pair<T>::product(sums[2 * i + 1], a, b[2], b[3]);
    }
    __syncwarp();  // The next fetch overwrites what other lanes just read.
  }
  copies_wait<0>();
  __syncthreads();  // Tiles are free: sums take their place.

  float* const exchange = reinterpret_cast<float*>(shared);
  constexpr int kSums = kWidth + 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* const to = exchange + (warp * kQueryTile + lane / 4 + half * 8) * kSums;
#pragma unroll
    for (int i = 0; i < kWidth / 8; ++i) {
      to[i * 8 + (lane % 4) * 2] = sums[i][half * 2];
      to[i * 8 + (lane % 4) * 2 + 1] = sums[i][half * 2 + 1];
    }
    if (lane % 4 == 0) {
      to[kWidth] = best[half];
      to[kWidth + 1] = weight[half];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rows * (kWidth / 2); i += blockDim.x) {
    const int row = i / (kWidth / 2);
    const int column = i % (kWidth / 2) * 2;
    float most = kNothing;
    for (int w = 0; w < kAttentionWarps; ++w)
      most = fmaxf(most, exchange[(w * kQueryTile + row) * kSums + kWidth]);
    float low = 0, high = 0, total = 0;
    for (int w = 0; w < kAttentionWarps; ++w) {
      const float* const from = exchange + (w * kQueryTile + row) * kSums;
      const float share = __expf(from[kWidth] - most);
      total += share * from[kWidth + 1];
      low += share * from[column];
      high += share * from[column + 1];
    }
    if (piece.partial < 0) {
      const int token = piece.token + row / group;
      const int head = kv_head * group + row % group;
      T* const to =
          static_cast<T*>(args.out) + (static_cast<long long>(token) * args.heads + head) * kWidth;
      Pair<T>::store(to + column, low / total, high / total);
    } else {
      float* const to =
          args.partials +
          ((static_cast<long long>(piece.partial) * args.kv_heads + kv_head) * kQueryTile + row) *
              kSums;
      to[column] = low;
      to[column + 1] = high;
      if (column == 0) {
        to[kWidth] = most;
        to[kWidth + 1] = total;
      }
    }
  }
}

template <class T, int kWidth>
__device__ void merge(const AttentionMergeArgs& args) {
  constexpr int kSums = kWidth + 2;
  const AttentionMerge job = args.merges[blockIdx.x];
  const int kv_head = blockIdx.y;
  const int group = args.heads / args.kv_heads;
  const int rows = job.tokens * group;
  for (int i = threadIdx.x; i < rows * kWidth; i += blockDim.x) {
    const int row = i / kWidth;
    const int column = i % kWidth;
    const auto part = [&](int index) {
      return args.partials +
             ((static_cast<long long>(job.partial + index) * args.kv_heads + kv_head) * kQueryTile +
              row) *
                 kSums;
    };
    float most = kNothing;
    for (int p = 0; p < job.partials; ++p) most = fmaxf(most, part(p)[kWidth]);
    float sum = 0, total = 0;
    for (int p = 0; p < job.partials; ++p) {
      const float share = __expf(part(p)[kWidth] - most);
      total += share * part(p)[kWidth + 1];
      sum += share * part(p)[column];
    }
    const int token = job.token + row / group;
    const int head = kv_head * group + row % group;
    static_cast<T*>(
        args.out)[(static_cast<long long>(token) * args.heads + head) * kWidth + column] =
        Pair<T>::one(sum / total);
  }
}

}  // namespace

#define MLXS_ATTENTION(name, type, width)                                                \
  extern "C" __global__ void __launch_bounds__(kAttentionWarps * 32)                     \
      attention_##name##_##width(AttentionArgs args) {                                   \
    attend<type, width>(args);                                                           \
  }                                                                                      \
  extern "C" __global__ void attention_merge_##name##_##width(AttentionMergeArgs args) { \
    merge<type, width>(args);                                                            \
  }
MLXS_ATTENTION(bfloat16, __nv_bfloat16, 64)
MLXS_ATTENTION(bfloat16, __nv_bfloat16, 128)
MLXS_ATTENTION(bfloat16, __nv_bfloat16, 256)
MLXS_ATTENTION(float16, __half, 64)
MLXS_ATTENTION(float16, __half, 128)
MLXS_ATTENTION(float16, __half, 256)

extern "C" __global__ void kv_append(KvAppendArgs args) {
  const int slot = args.slots[blockIdx.x];
  const int which = blockIdx.y;
  const int block = slot / args.block_tokens;
  const int at = slot % args.block_tokens;
  const uint4* const rows =
      static_cast<const uint4*>(args.rows[which]) + blockIdx.x * args.token_stride[which];
  uint4* const pool = static_cast<uint4*>(args.pool[which]);
  for (int i = threadIdx.x; i < args.heads * args.row_words; i += blockDim.x) {
    const int head = i / args.row_words;
    const int word = i % args.row_words;
    const long long to =
        ((static_cast<long long>(block) * args.heads + head) * args.block_tokens + at) *
            args.row_words +
        word;
    pool[to] = rows[head * args.head_stride[which] + word];
  }
}
