// A whole decode step in kernels of our own: eight a layer, each as wide as the device.

#include "engine/ops/cuda/device.cuh"
#include "engine/ops/cuda/step_kernels.h"

using namespace mlxs::engine::cuda;

namespace {

using T = __nv_bfloat16;

__device__ float over_warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// Of a whole block of up to 1024 threads.
__device__ float over_block_sum(float value) {
  __shared__ float parts[32];
  value = over_warp_sum(value);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32;
  return over_warp_sum(static_cast<int>(threadIdx.x % 32) < warps ? parts[threadIdx.x % 32] : 0.0f);
}

// Sums of up to kSplitsMax partials, four neighbours at once: all loads are under way together.
__device__ float4 sum_partials(const float* first, long long split, int splits) {
  float4 sum = {0, 0, 0, 0};
#pragma unroll 4
  for (int s = 0; s < splits; ++s) {
    const float4 one = *reinterpret_cast<const float4*>(first + s * split);
    sum.x += one.x;
    sum.y += one.y;
    sum.z += one.z;
    sum.w += one.w;
  }
  return sum;
}

__device__ void store_four(T* to, float a, float b, float c, float d) {
  uint2 words;
  words.x = Pair<T>::pack(a, b);
  words.y = Pair<T>::pack(c, d);
  *reinterpret_cast<uint2*>(to) = words;
}

__device__ float4 load_four(const T* from) {
  const uint2 words = *reinterpret_cast<const uint2*>(from);
  const float2 low = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(words.x));
  const float2 high = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(words.y));
  return {low.x, low.y, high.x, high.y};
}

template <int NT, bool kGated>
__device__ void product(const ProductArgs& args) {
  constexpr int kRow = kInputTile + 8;  // Padded: eight rows lie in different banks.
  constexpr int kTokens = NT * 8;
  constexpr int kStage = (kFeatureTile + kTokens) * kRow;
  constexpr int kStages = product_stages(NT);
  extern __shared__ __align__(16) unsigned char shared[];
  T* const stages = reinterpret_cast<T*>(shared);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  // Of the tile each warp has 16 features and all tokens, or where there are many tokens twice the
  // features and half the tokens, which reads less of shared memory.
  constexpr int kAcross = NT >= 8 ? 2 : 1;
  constexpr int kMine = NT / kAcross;
  const int feature_part = warp / kAcross * kAcross;
  const int token_part = warp % kAcross * kMine;

  const T* w = static_cast<const T*>(args.w);
  int rows = args.tokens;
  const int* row_list = nullptr;
  int tile_begin = 0;
  int tiles = args.inputs / kInputTile;
  if (args.each > 0) {
    const int expert = blockIdx.y;
    const int begin = args.expert_begin[expert];
    rows = args.expert_begin[expert + 1] - begin;
    if (rows == 0) return;
    row_list = args.expert_rows + begin;
    w += static_cast<long long>(expert) * args.features * args.inputs;
  } else {
    tile_begin = blockIdx.y * args.tiles_per_split;
    tiles = min(args.tiles_per_split, tiles - tile_begin);
  }
  // Feature of a row of the weights' tile: gated, every 16 rows are 8 gates and their 8 ups.
  const int half = args.features / 2;
  const auto feature = [&](int row) {
    if (!kGated) return static_cast<int>(blockIdx.x) * kFeatureTile + row;
    const int gate = blockIdx.x * (kFeatureTile / 2) + row / 16 * 8 + row % 8;
    return row % 16 < 8 ? gate : half + gate;
  };

  for (int first = 0; first < rows; first += kTokens) {
    const auto fetch = [&](int tile) {
      T* const to = stages + tile % kStages * kStage;
      const long long at = static_cast<long long>(tile_begin + tile) * kInputTile;
#pragma unroll
      for (int i = threadIdx.x; i < kFeatureTile * 8; i += 128) {
        const int row = i / 8;
        const int column = i % 8 * 8;
        const T* const from = w + static_cast<long long>(feature(row)) * args.inputs + at + column;
        copy_async(shared_address(to + row * kRow + column), from);
      }
#pragma unroll
      for (int i = threadIdx.x; i < kTokens * 8; i += 128) {
        const int row = first + i / 8;
        const int column = i % 8 * 8;
        T* const place = to + (kFeatureTile + i / 8) * kRow + column;
        const bool there = row < rows;
        int index = there ? row : 0;
        if (row_list != nullptr) {
          index = row_list[index];
          if (!args.x_by_row) index /= args.each;
        }
        const T* const from = static_cast<const T*>(args.x) +
                              static_cast<long long>(index) * args.inputs + at + column;
        copy_async_or_zero(shared_address(place), from, there);
      }
    };
    float sums[kAcross][kMine][4];
#pragma unroll
    for (int m = 0; m < kAcross; ++m)
#pragma unroll
      for (int i = 0; i < kMine; ++i)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[m][i][k] = 0;
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      if (stage < tiles) fetch(stage);
      copies_committed();
    }
    for (int tile = 0; tile < tiles; ++tile) {
      copies_wait<kStages - 2>();
      __syncthreads();
      if (tile + kStages - 1 < tiles) fetch(tile + kStages - 1);
      copies_committed();
      const T* const weights = stages + tile % kStages * kStage + feature_part * 16 * kRow;
      const T* const inputs =
          stages + tile % kStages * kStage + (kFeatureTile + token_part * 8) * kRow;
#pragma unroll
      for (int k = 0; k < kInputTile; k += 32) {
        unsigned a[kAcross][2][4];
#pragma unroll
        for (int m = 0; m < kAcross; ++m) {
          const T* const from = weights + (m * 16 + lane % 16) * kRow + k + lane / 16 * 8;
          load_matrices(a[m][0], shared_address(from));
          load_matrices(a[m][1], shared_address(from + 16));
        }
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
          unsigned b[4];  // Eight tokens by 32 inputs.
          load_matrices(b, shared_address(inputs + (i * 8 + lane % 8) * kRow + k + lane / 8 * 8));
#pragma unroll
          for (int m = 0; m < kAcross; ++m) {
            Pair<T>::product(sums[m][i], a[m][0], b[0], b[1]);
            Pair<T>::product(sums[m][i], a[m][1], b[2], b[3]);
          }
        }
      }
    }
    copies_wait<0>();
    __syncthreads();  // The next tokens' fetches overwrite what was just read.

#pragma unroll
    for (int i = 0; i < kMine; ++i) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int number = first + (token_part + i) * 8 + (lane % 4) * 2 + k;
        if (number >= rows) continue;
        const int row = row_list == nullptr ? number : row_list[number];
        float scale = 1;
        long long place = static_cast<long long>(blockIdx.y) * args.tokens + row;
        if (!kGated && args.each > 0) {
          scale = args.shares[row];
          place = static_cast<long long>(row % args.each) * args.tokens + row / args.each;
        }
#pragma unroll
        for (int m = 0; m < kAcross; ++m) {
          const int at = blockIdx.x * (kGated ? kFeatureTile / 2 : kFeatureTile) +
                         (feature_part + m) * (kGated ? 8 : 16) + lane / 4;
          if (kGated) {
            const float gate = sums[m][i][k];
            const float value = gate / (1.0f + __expf(-gate)) * sums[m][i][k + 2];
            static_cast<T*>(args.gated)[static_cast<long long>(row) * half + at] =
                __float2bfloat16(value);
          } else {
            float* const to = args.partials + place * args.features + at;
            to[0] = sums[m][i][k] * scale;
            to[8] = sums[m][i][k + 2] * scale;
          }
        }
      }
    }
  }
}

}  // namespace

#define MLXS_PRODUCT(tiles)                                                                  \
  extern "C" __global__ void __launch_bounds__(128) step_product_##tiles(ProductArgs args) { \
    product<tiles, false>(args);                                                             \
  }                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) step_gated_##tiles(ProductArgs args) {   \
    product<tiles, true>(args);                                                              \
  }
MLXS_PRODUCT(1)
MLXS_PRODUCT(2)
MLXS_PRODUCT(4)
MLXS_PRODUCT(8)
MLXS_PRODUCT(16)

extern "C" __global__ void __launch_bounds__(256) step_embed(EmbedArgs args) {
  const long long at = static_cast<long long>(blockIdx.x) * args.width;
  const T* const row = static_cast<const T*>(args.table) +
                       static_cast<long long>(args.tokens[blockIdx.x]) * args.width;
  float squares = 0;
  for (int i = threadIdx.x; i < args.width; i += blockDim.x) {
    const float value = __bfloat162float(row[i]) * args.scale;
    args.residual[at + i] = value;
    squares += value * value;
  }
  const float factor = rsqrtf(over_block_sum(squares) / args.width + args.eps);
  const T* const norm = static_cast<const T*>(args.norm);
  for (int i = threadIdx.x; i < args.width; i += blockDim.x)
    static_cast<T*>(args.out)[at + i] =
        __float2bfloat16(args.residual[at + i] * factor * __bfloat162float(norm[i]));
}

extern "C" __global__ void __launch_bounds__(1024) step_add_norm(AddNormArgs args) {
  const int token = args.rows == nullptr ? static_cast<int>(blockIdx.x) : args.rows[blockIdx.x];
  const long long at = static_cast<long long>(token) * args.width;
  const long long split = static_cast<long long>(args.tokens) * args.width;
  constexpr int kEach = 2;  // Fours a thread: widths up to 8192.
  float4 values[kEach];
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int i = (threadIdx.x + k * blockDim.x) * 4;
    if (i >= args.width) continue;
    float4* const residual = reinterpret_cast<float4*>(args.residual + at + i);
    const float4 before = *residual;
    float4 value = sum_partials(args.partials + at + i, split, args.splits);
    value = {value.x + before.x, value.y + before.y, value.z + before.z, value.w + before.w};
    // With `rows` a token may be asked for twice, and the residual is not needed any more.
    if (args.rows == nullptr) *residual = value;
    values[k] = value;
    squares += value.x * value.x + value.y * value.y + value.z * value.z + value.w * value.w;
  }
  const float factor = rsqrtf(over_block_sum(squares) / args.width + args.eps);
  T* const out = static_cast<T*>(args.out) + static_cast<long long>(blockIdx.x) * args.width;
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    const int i = (threadIdx.x + k * blockDim.x) * 4;
    if (i >= args.width) continue;
    const float4 norm = load_four(static_cast<const T*>(args.norm) + i);
    store_four(out + i,
               values[k].x * factor * norm.x,
               values[k].y * factor * norm.y,
               values[k].z * factor * norm.z,
               values[k].w * factor * norm.w);
  }
}

extern "C" __global__ void __launch_bounds__(128) step_heads(HeadsArgs args) {
  const int lane = threadIdx.x % 32;
  const int head = blockIdx.x * 4 + threadIdx.x / 32;
  const int token = blockIdx.y;
  const int all = args.heads + 2 * args.kv_heads;
  if (head >= all) return;
  const int half = args.width / 2;
  const long long at = (static_cast<long long>(token) * all + head) * args.width;
  const long long split = static_cast<long long>(args.tokens) * all * args.width;

  constexpr int kPairs = 4;  // Widths up to 256: pairs (i, i + width/2) a lane.
  float low[kPairs], high[kPairs];
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = lane + p * 32;
    if (i >= half) break;
    float a = 0, b = 0;
#pragma unroll 4
    for (int s = 0; s < args.splits; ++s) {
      a += args.partials[s * split + at + i];
      b += args.partials[s * split + at + half + i];
    }
    if (args.bias != nullptr) {
      const T* const bias = static_cast<const T*>(args.bias) + head * args.width;
      a += __bfloat162float(bias[i]);
      b += __bfloat162float(bias[half + i]);
    }
    low[p] = a;
    high[p] = b;
    squares += a * a + b * b;
  }
  const bool is_value = head >= args.heads + args.kv_heads;
  const bool is_query = head < args.heads;
  if (!is_value) {
    const void* const norm = is_query ? args.query_norm : args.key_norm;
    if (norm != nullptr) {
      const float factor = rsqrtf(over_warp_sum(squares) / args.width + args.eps);
      const T* const weight = static_cast<const T*>(norm);
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        const int i = lane + p * 32;
        if (i >= half) break;
        low[p] *= factor * __bfloat162float(weight[i]);
        high[p] *= factor * __bfloat162float(weight[half + i]);
      }
    }
    const float position = static_cast<float>(args.positions[token]) * args.rope_scale;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const int i = lane + p * 32;
      if (i >= half) break;
      float sine, cosine;
      sincosf(position / args.freqs[i], &sine, &cosine);
      const float a = low[p];
      low[p] = a * cosine - high[p] * sine;
      high[p] = a * sine + high[p] * cosine;
    }
  }
  T* to;
  if (is_query) {
    to = static_cast<T*>(args.queries) +
         (static_cast<long long>(token) * args.heads + head) * args.width;
  } else {
    const int slot = args.slots[token];
    const int kv_head = head - args.heads - (is_value ? args.kv_heads : 0);
    const long long block = slot / args.block_tokens;
    to = static_cast<T*>(is_value ? args.values : args.keys) +
         ((block * args.kv_heads + kv_head) * args.block_tokens + slot % args.block_tokens) *
             args.width;
  }
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const int i = lane + p * 32;
    if (i >= half) break;
    to[i] = __float2bfloat16(low[p]);
    to[half + i] = __float2bfloat16(high[p]);
  }
}

extern "C" __global__ void __launch_bounds__(1024) step_route(RouteArgs args) {
  constexpr int kExpertsMax = 256;
  constexpr int kRowsMax = kStepTokensMax * 16;
  __shared__ int counts[kExpertsMax];
  __shared__ int begins[kExpertsMax + 1];
  __shared__ unsigned char chosen[kRowsMax];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < args.experts; i += 1024) counts[i] = 0;
  __syncthreads();

  const long long split = static_cast<long long>(args.tokens) * args.experts;
  for (int token = warp; token < args.tokens; token += 32) {
    float scores[kExpertsMax / 32];
#pragma unroll
    for (int k = 0; k < kExpertsMax / 32; ++k) {
      const int expert = lane + k * 32;
      scores[k] = -INFINITY;
      if (expert >= args.experts) continue;
      float sum = 0;
      for (int s = 0; s < args.splits; ++s)
        sum += args.partials[s * split + static_cast<long long>(token) * args.experts + expert];
      scores[k] = sum;
    }
    float all = 0, best = 0, total = 0, mine = 0;
    for (int slot = 0; slot < args.each; ++slot) {
      float value = -INFINITY;
      int expert = args.experts;
#pragma unroll
      for (int k = 0; k < kExpertsMax / 32; ++k) {
        if (scores[k] > value) {
          value = scores[k];
          expert = lane + k * 32;
        }
      }
#pragma unroll
      for (int offset = 16; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(~0u, value, offset);
        const int other_expert = __shfl_xor_sync(~0u, expert, offset);
        if (other > value || (other == value && other_expert < expert)) {
          value = other;
          expert = other_expert;
        }
      }
      if (slot == 0) {
        best = value;
        float sum = 0;
#pragma unroll
        for (int k = 0; k < kExpertsMax / 32; ++k) sum += __expf(scores[k] - best);
        all = over_warp_sum(sum);
      }
      const float weight = __expf(value - best);
      total += weight;
      if (lane == slot) mine = weight;
#pragma unroll
      for (int k = 0; k < kExpertsMax / 32; ++k)
        if (lane + k * 32 == expert) scores[k] = -INFINITY;
      if (lane == 0) {
        chosen[token * args.each + slot] = static_cast<unsigned char>(expert);
        atomicAdd(&counts[expert], 1);
      }
    }
    if (lane < args.each)
      args.shares[token * args.each + lane] = mine / (args.normalised ? total : all);
  }
  __syncthreads();
  if (warp == 0) {
    int begin = 0;
    for (int first = 0; first < args.experts; first += 32) {
      const int count = first + lane < args.experts ? counts[first + lane] : 0;
      int sum = count;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const int before = __shfl_up_sync(~0u, sum, offset);
        if (lane >= offset) sum += before;
      }
      if (first + lane < args.experts) begins[first + lane] = begin + sum - count;
      begin += __shfl_sync(~0u, sum, 31);
    }
    if (lane == 0) begins[args.experts] = begin;
  }
  __syncthreads();
  for (int i = threadIdx.x; i <= args.experts; i += 1024) args.expert_begin[i] = begins[i];
  // In token order, so that the same rows always meet in a tile. A warp an expert.
  const int rows = args.tokens * args.each;
  for (int expert = warp; expert < args.experts; expert += 32) {
    if (counts[expert] == 0) continue;
    int at = begins[expert];
    for (int first = 0; first < rows; first += 32) {
      const int row = first + lane;
      const bool mine = row < rows && chosen[row] == expert;
      const unsigned all = __ballot_sync(~0u, mine);
      if (mine) args.expert_rows[at + __popc(all & ((1u << lane) - 1))] = row;
      at += __popc(all);
    }
  }
}
