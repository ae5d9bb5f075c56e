// Compiled for AVX-512 with VNNI, called where the machine has them. Nothing inline from elsewhere
// may be used here: the linker could keep this file's copy of it for everyone.

#include "engine/ops/cpu/kernel_sets.h"

#include <immintrin.h>

namespace mlxs::engine {
namespace {

constexpr int kTokenBytes = 2 * kPanelColumns;  // A token's part of a block: high bytes, then low.
constexpr int kQuadBytes = 4 * kPanelRows;
constexpr int kQuads = kPanelColumns / 4;

int least(int a, int b) { return a < b ? a : b; }

bool available() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

__m512i to_codes(const float* x, __m512 factor) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
}

void store_bytes(std::uint8_t* to, __m512i values) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(values));
}

__m512i high_bytes(__m512i codes) {
  return _mm512_srai_epi32(_mm512_add_epi32(codes, _mm512_set1_epi32(128)), 8);
}

/// Only the high bytes' places are written, and read.
void encode_short(const float* x, int columns, int index, int tokens, const Codes& out) {
  const int first = index / kCodeTile * kCodeTile;
  const int width = least(kCodeTile, tokens - first);
  const std::int64_t sums_at = std::int64_t{first} * (columns / kPanelColumns) + (index - first);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  std::uint8_t* to =
      out.codes + std::int64_t{first} * columns * 2 + std::int64_t{index - first} * kTokenBytes;
  float* sum = out.sums + sums_at;
  float* scale = out.block_scales + sums_at;
  out.scales[index] = 1;
  for (int i = 0; i < columns; i += kPanelColumns) {
    const __m512i most =
        _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + i), magnitude),
                         _mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude));
    const int bits = _mm512_reduce_max_epi32(most);
    const float maximum = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
    const bool finite = bits < 0x7f800000;
    if (!finite) out.scales[index] = __builtin_nanf("");
    const bool nothing = !finite || maximum < kTokenMaxMin;
    const auto most_code = static_cast<float>(kShortCodeMax);
    const __m512 factor = _mm512_set1_ps(nothing ? 0.0f : most_code / maximum);
    const __mmask16 keep = nothing ? 0 : 0xffff;
    const __m512i a = _mm512_maskz_mov_epi32(keep, to_codes(x + i, factor));
    const __m512i b = _mm512_maskz_mov_epi32(keep, to_codes(x + i + 16, factor));
    store_bytes(to, a);
    store_bytes(to + 16, b);
    *scale = nothing ? 0.0f : maximum / most_code;
    *sum = static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(a, b))) * *scale;
    to += width * kTokenBytes;
    sum += width;
    scale += width;
  }
}

void encode(const float* x, int columns, int index, int tokens, const Codes& out) {
  if (out.block_scales != nullptr) return encode_short(x, columns, index, tokens, out);
  const int first = index / kCodeTile * kCodeTile;
  const int width = least(kCodeTile, tokens - first);
  const int blocks = columns / kPanelColumns;
  // Without their signs, floats are ordered as their bits are, whatever is not finite on top.
  __m512i most = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int i = 0; i < columns; i += 16) {
    most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
  }
  const int bits = _mm512_reduce_max_epi32(most);
  const float maximum = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
  const bool finite = bits < 0x7f800000;
  const bool nothing = !finite || maximum < kTokenMaxMin;
  out.scales[index] = !finite   ? __builtin_nanf("")
                      : nothing ? 0.0f
                                : maximum / static_cast<float>(kCodeMax);
  const __m512 factor = _mm512_set1_ps(nothing ? 0.0f : static_cast<float>(kCodeMax) / maximum);
  const __mmask16 keep = nothing ? 0 : 0xffff;
  std::uint8_t* to =
      out.codes + std::int64_t{first} * columns * 2 + std::int64_t{index - first} * kTokenBytes;
  float* sum = out.sums + std::int64_t{first} * blocks + (index - first);
  for (int i = 0; i < columns; i += kPanelColumns, to += width * kTokenBytes, sum += width) {
    const __m512i a = _mm512_maskz_mov_epi32(keep, to_codes(x + i, factor));
    const __m512i b = _mm512_maskz_mov_epi32(keep, to_codes(x + i + 16, factor));
    const __m512i a_high = high_bytes(a);
    const __m512i b_high = high_bytes(b);
    store_bytes(to, a_high);
    store_bytes(to + 16, b_high);
    store_bytes(to + 32, _mm512_sub_epi32(a, _mm512_slli_epi32(a_high, 8)));
    store_bytes(to + 48, _mm512_sub_epi32(b, _mm512_slli_epi32(b_high, 8)));
    *sum = static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(a, b)));
  }
}

template <bool kHalf>
inline __attribute__((always_inline)) __m512 load_scales(const std::uint8_t* at) {
  if constexpr (kHalf) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  } else {
    return _mm512_loadu_ps(at);
  }
}

template <int kBits>
inline __attribute__((always_inline)) void load_quads(const std::uint8_t* q, __m512i* quads) {
  if constexpr (kBits == 8) {
#pragma GCC unroll 8
    for (int i = 0; i < kQuads; ++i) quads[i] = _mm512_loadu_si512(q + i * kQuadBytes);
  } else {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < kQuads / 2; ++i) {
      const __m512i pair = _mm512_loadu_si512(q + i * kQuadBytes);
      quads[i] = _mm512_and_si512(pair, low);
      quads[i + kQuads / 2] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
    }
  }
}

inline __attribute__((always_inline)) __m512i spread(const std::uint8_t* quad) {
  int bytes;
  __builtin_memcpy(&bytes, quad, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

/// One panel and one tile of kTokens. `steps`: the scales of blocks, where codes are short.
template <int kBits, bool kHalf, bool kShort, int kTokens>
void tile(const std::uint8_t* panel,
          int blocks,
          const std::uint8_t* codes,
          const float* sums,
          const float* steps,
          const float* scales,
          __mmask16 rows,
          float* out,
          std::int64_t out_stride) {
  constexpr int kScalesBytes = kPanelRows * (kHalf ? 2 : 4);
  constexpr int kBlockBytes = 2 * kScalesBytes + kPanelRows * kPanelColumns * kBits / 8;
  __m512 acc[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm512_setzero_ps();
  for (int block = 0; block < blocks; ++block) {
    __m512i quads[kQuads];
    load_quads<kBits>(panel + 2 * kScalesBytes, quads);
    __m512i dot[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) dot[t] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int i = 0; i < kQuads; ++i) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        dot[t] = _mm512_dpbusd_epi32(dot[t], quads[i], spread(codes + t * kTokenBytes + i * 4));
      }
    }
    if constexpr (!kShort) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) dot[t] = _mm512_slli_epi32(dot[t], 8);
#pragma GCC unroll 8
      for (int i = 0; i < kQuads; ++i) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          dot[t] = _mm512_dpbusd_epi32(
              dot[t], quads[i], spread(codes + t * kTokenBytes + kPanelColumns + i * 4));
        }
      }
    }
    const __m512 scale = load_scales<kHalf>(panel);
    const __m512 bias = load_scales<kHalf>(panel + kScalesBytes);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      __m512 part = _mm512_cvtepi32_ps(dot[t]);
      if constexpr (kShort) part = _mm512_mul_ps(part, _mm512_set1_ps(steps[t]));
      acc[t] = _mm512_fmadd_ps(scale, part, acc[t]);
      acc[t] = _mm512_fmadd_ps(bias, _mm512_set1_ps(sums[t]), acc[t]);
    }
    panel += kBlockBytes;
    codes += kTokens * kTokenBytes;
    sums += kTokens;
    if constexpr (kShort) steps += kTokens;
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    _mm512_mask_storeu_ps(
        out + t * out_stride, rows, _mm512_mul_ps(acc[t], _mm512_set1_ps(scales[t])));
  }
}

using TileKernel = void (*)(const std::uint8_t*,
                            int,
                            const std::uint8_t*,
                            const float*,
                            const float*,
                            const float*,
                            __mmask16,
                            float*,
                            std::int64_t);

struct TileKernels {
  TileKernel by_tokens[kCodeTile];
};

template <int kBits, bool kHalf, bool kShort>
constexpr TileKernels kTiles = {{tile<kBits, kHalf, kShort, 1>,
                                 tile<kBits, kHalf, kShort, 2>,
                                 tile<kBits, kHalf, kShort, 3>,
                                 tile<kBits, kHalf, kShort, 4>,
                                 tile<kBits, kHalf, kShort, 5>,
                                 tile<kBits, kHalf, kShort, 6>,
                                 tile<kBits, kHalf, kShort, 7>,
                                 tile<kBits, kHalf, kShort, 8>}};

template <bool kShort>
const TileKernels& tiles_for(const PanelView& weight) {
  if (weight.form == PanelForm::kAffine4)
    return weight.half_scales ? kTiles<4, true, kShort> : kTiles<4, false, kShort>;
  return weight.half_scales ? kTiles<8, true, kShort> : kTiles<8, false, kShort>;
}

void multiply(const PanelView& weight,
              int rows,
              int first,
              int last,
              const Codes& in,
              int tokens,
              float* out,
              std::int64_t out_stride) {
  const bool is_short = in.block_scales != nullptr;
  const TileKernels& tiles = is_short ? tiles_for<true>(weight) : tiles_for<false>(weight);
  const int blocks = weight.columns / kPanelColumns;
  for (int panel = first; panel < last; ++panel) {
    const int left = least(kPanelRows, rows - panel * kPanelRows);
    const auto mask = static_cast<__mmask16>((1u << left) - 1);
    for (int t = 0; t < tokens; t += kCodeTile) {
      const int count = least(kCodeTile, tokens - t);
      tiles.by_tokens[count - 1](weight.data + panel * weight.panel_bytes,
                                 blocks,
                                 in.codes + std::int64_t{t} * weight.columns * 2,
                                 in.sums + std::int64_t{t} * blocks,
                                 is_short ? in.block_scales + std::int64_t{t} * blocks : nullptr,
                                 in.scales + t,
                                 mask,
                                 out + t * out_stride + panel * kPanelRows,
                                 out_stride);
    }
  }
}

template <PanelForm kForm>
inline __attribute__((always_inline)) __m512 load_numbers(const std::uint8_t* panel, int column) {
  if constexpr (kForm == PanelForm::kFloat32) {
    return _mm512_loadu_ps(panel + std::int64_t{column} * kPanelRows * 4);
  } else {
    const __m256i halves = _mm256_loadu_si256(
        reinterpret_cast<const __m256i*>(panel + std::int64_t{column} * kPanelRows * 2));
    if constexpr (kForm == PanelForm::kHalf) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
}

/// kTokens and kPanels panels, together enough sums that none waits for its own last one.
template <PanelForm kForm, int kTokens, int kPanels>
void dense_tile(const PanelView& weight,
                int rows,
                int panel,
                const float* x,
                std::int64_t x_stride,
                float* out,
                std::int64_t out_stride) {
  const std::uint8_t* const data = weight.data + panel * weight.panel_bytes;
  __m512 acc[kTokens * kPanels];
#pragma GCC unroll 16
  for (int i = 0; i < kTokens * kPanels; ++i) acc[i] = _mm512_setzero_ps();
  for (int column = 0; column < weight.columns; ++column) {
    __m512 numbers[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      numbers[p] = load_numbers<kForm>(data + p * weight.panel_bytes, column);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kTokens * kPanels; ++i) {
      const __m512 value = _mm512_set1_ps(x[i / kPanels * x_stride + column]);
      acc[i] = _mm512_fmadd_ps(numbers[i % kPanels], value, acc[i]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTokens * kPanels; ++i) {
    const int row = (panel + i % kPanels) * kPanelRows;
    const auto mask = static_cast<__mmask16>((1u << least(kPanelRows, rows - row)) - 1);
    _mm512_mask_storeu_ps(out + i / kPanels * out_stride + row, mask, acc[i]);
  }
}

/// All tokens, in tiles of kTokens, and what is left of them one by one.
template <PanelForm kForm, int kTokens, int kPanels>
void dense_panels(const PanelView& weight,
                  int rows,
                  int panel,
                  const float* x,
                  std::int64_t x_stride,
                  int tokens,
                  float* out,
                  std::int64_t out_stride) {
  int t = 0;
  for (; t + kTokens <= tokens; t += kTokens) {
    dense_tile<kForm, kTokens, kPanels>(
        weight, rows, panel, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  }
  for (; t < tokens; ++t) {
    dense_tile<kForm, 1, kPanels>(
        weight, rows, panel, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
  }
}

template <PanelForm kForm>
void dense(const PanelView& weight,
           int rows,
           int first,
           int last,
           const float* x,
           std::int64_t x_stride,
           int tokens,
           float* out,
           std::int64_t out_stride) {
  int panel = first;
  for (; panel + 4 <= last; panel += 4) {
    dense_panels<kForm, 4, 4>(weight, rows, panel, x, x_stride, tokens, out, out_stride);
  }
  for (; panel < last; ++panel) {
    dense_panels<kForm, 8, 1>(weight, rows, panel, x, x_stride, tokens, out, out_stride);
  }
}

void multiply_dense(const PanelView& weight,
                    int rows,
                    int first,
                    int last,
                    const float* x,
                    std::int64_t x_stride,
                    int tokens,
                    float* out,
                    std::int64_t out_stride) {
  auto* const kernel = weight.form == PanelForm::kFloat32 ? dense<PanelForm::kFloat32>
                       : weight.form == PanelForm::kHalf  ? dense<PanelForm::kHalf>
                                                          : dense<PanelForm::kBfloat16>;
  kernel(weight, rows, first, last, x, x_stride, tokens, out, out_stride);
}

}  // namespace

const ProductKernels kAvx512VnniKernels = {
    "avx512vnni", &kAvx512Attention, available, encode, multiply, multiply_dense};

}  // namespace mlxs::engine
