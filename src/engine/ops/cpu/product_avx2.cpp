// Compiled for AVX2, FMA and F16C, called where the machine has them. Nothing inline from elsewhere
// may be used here: the linker could keep this file's copy of it for everyone.

#include "engine/ops/cpu/kernel_sets.h"

#include <immintrin.h>

namespace mlxs::engine {
namespace {

constexpr int kTokenBytes = 2 * kPanelColumns;  // Sixteen bits a code, see `encode`.
constexpr int kHalfPanel = kPanelRows / 2;      // Rows in a register.
constexpr int kQuadBytes = 4 * kPanelRows;
constexpr int kQuads = kPanelColumns / 4;
constexpr int kTokensMax = 4;  // Together: sums, products and quads fit sixteen registers.

int least(int a, int b) { return a < b ? a : b; }

bool available() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

__m256i to_codes(const float* x, __m256 factor, __m256i keep) {
  return _mm256_and_si256(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor)), keep);
}

int sum_of(__m256i values) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

int most_of(__m256i values) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtsi128_si32(most);
}

/// A quad's codes (a, b, c, d) are stored as a, c, b, d: the pairs that a weight's quad gives when
/// every other of its bytes is masked. Two quads.
void store_codes(__m256i codes, std::uint8_t* to) {
  // Of 32 bits a code: (a, b, c, d) becomes (a|c<<16, b|d<<16).
  const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi32(0xffff));
  const __m256i swapped = _mm256_shuffle_epi32(codes, 0x4e);
  const __m256i pairs = _mm256_or_si256(low, _mm256_slli_epi32(swapped, 16));
  const __m256i packed =
      _mm256_permutevar8x32_epi32(pairs, _mm256_setr_epi32(0, 1, 4, 5, 0, 1, 4, 5));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}

void encode_short(const float* x, int columns, int index, int tokens, const Codes& out) {
  const int first = index / kCodeTile * kCodeTile;
  const int width = least(kCodeTile, tokens - first);
  const std::int64_t sums_at = std::int64_t{first} * (columns / kPanelColumns) + (index - first);
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  std::uint8_t* to =
      out.codes + std::int64_t{first} * columns * 2 + std::int64_t{index - first} * kTokenBytes;
  float* sum = out.sums + sums_at;
  float* scale = out.block_scales + sums_at;
  out.scales[index] = 1;
  for (int i = 0; i < columns; i += kPanelColumns) {
    __m256i most = _mm256_setzero_si256();
    for (int k = 0; k < kPanelColumns; k += 8) {
      const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + k));
      most = _mm256_max_epi32(most, _mm256_and_si256(value, magnitude));
    }
    const int bits = most_of(most);
    const float maximum = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
    const bool finite = bits < 0x7f800000;
    if (!finite) out.scales[index] = __builtin_nanf("");
    const bool nothing = !finite || maximum < kTokenMaxMin;
    const auto most_code = static_cast<float>(kShortCodeMax);
    const __m256 factor = _mm256_set1_ps(nothing ? 0.0f : most_code / maximum);
    const __m256i keep = _mm256_set1_epi32(nothing ? 0 : -1);
    __m256i total = _mm256_setzero_si256();
    for (int k = 0; k < kPanelColumns; k += 8) {
      const __m256i codes = to_codes(x + i + k, factor, keep);
      total = _mm256_add_epi32(total, codes);
      store_codes(codes, to + k * 2);
    }
    *scale = nothing ? 0.0f : maximum / most_code;
    *sum = static_cast<float>(sum_of(total)) * *scale;
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
  __m256i most = _mm256_setzero_si256();
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  for (int i = 0; i < columns; i += 8) {
    const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    most = _mm256_max_epi32(most, _mm256_and_si256(value, magnitude));
  }
  const int bits = most_of(most);
  const float maximum = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
  const bool finite = bits < 0x7f800000;
  const bool nothing = !finite || maximum < kTokenMaxMin;
  out.scales[index] = !finite   ? __builtin_nanf("")
                      : nothing ? 0.0f
                                : maximum / static_cast<float>(kCodeMax);
  const __m256 factor = _mm256_set1_ps(nothing ? 0.0f : static_cast<float>(kCodeMax) / maximum);
  const __m256i keep = _mm256_set1_epi32(nothing ? 0 : -1);
  std::uint8_t* to =
      out.codes + std::int64_t{first} * columns * 2 + std::int64_t{index - first} * kTokenBytes;
  float* sum = out.sums + std::int64_t{first} * blocks + (index - first);
  for (int i = 0; i < columns; i += kPanelColumns, to += width * kTokenBytes, sum += width) {
    __m256i total = _mm256_setzero_si256();
    for (int k = 0; k < kPanelColumns; k += 8) {
      const __m256i codes = to_codes(x + i + k, factor, keep);
      total = _mm256_add_epi32(total, codes);
      store_codes(codes, to + k * 2);
    }
    *sum = static_cast<float>(sum_of(total));
  }
}

template <bool kHalf>
inline __attribute__((always_inline)) __m256 load_scales(const std::uint8_t* at) {
  if constexpr (kHalf) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  } else {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
}

/// The columns (a, c) or, with `odd`, (b, d) of quad `quad`, as pairs of 16 bits.
template <int kBits, int kQuad, bool kOdd>
inline __attribute__((always_inline)) __m256i load_pairs(const std::uint8_t* q) {
  if constexpr (kBits == 8) {
    const __m256i bytes =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + kQuad * kQuadBytes));
    return _mm256_and_si256(kOdd ? _mm256_srli_epi32(bytes, 8) : bytes,
                            _mm256_set1_epi32(0x00ff00ff));
  } else {
    constexpr int kShift = (kOdd ? 8 : 0) + kQuad / (kQuads / 2) * 4;
    const __m256i bytes =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + kQuad % (kQuads / 2) * kQuadBytes));
    return _mm256_and_si256(_mm256_srli_epi32(bytes, kShift), _mm256_set1_epi32(0x000f000f));
  }
}

inline __attribute__((always_inline)) __m256i spread(const std::uint8_t* pair) {
  int bits;
  __builtin_memcpy(&bits, pair, sizeof bits);
  return _mm256_set1_epi32(bits);
}

template <int kBits, int kTokens, int kQuad>
inline __attribute__((always_inline)) void add_quads(const std::uint8_t* q,
                                                     const std::uint8_t* codes,
                                                     __m256i* dot) {
  if constexpr (kQuad < kQuads) {
    const __m256i even = load_pairs<kBits, kQuad, false>(q);
    const __m256i odd = load_pairs<kBits, kQuad, true>(q);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const std::uint8_t* const code = codes + t * kTokenBytes + kQuad * 8;
      dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(even, spread(code)));
      dot[t] = _mm256_add_epi32(dot[t], _mm256_madd_epi16(odd, spread(code + 4)));
    }
    add_quads<kBits, kTokens, kQuad + 1>(q, codes, dot);
  }
}

/// Half a panel, whose scales and quads begin at `scales` and `q`, and kTokens of a tile of
/// `width`. `steps`: the scales of blocks, where codes are short; else null.
template <int kBits, bool kHalf, int kTokens>
void tile(const std::uint8_t* scales,
          const std::uint8_t* q,
          int blocks,
          const std::uint8_t* codes,
          const float* sums,
          const float* steps,
          int width,
          __m256* acc) {
  constexpr int kScalesBytes = kPanelRows * (kHalf ? 2 : 4);
  constexpr int kBlockBytes = 2 * kScalesBytes + kPanelRows * kPanelColumns * kBits / 8;
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) acc[t] = _mm256_setzero_ps();
  for (int block = 0; block < blocks; ++block) {
    __m256i dot[kTokens];
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) dot[t] = _mm256_setzero_si256();
    add_quads<kBits, kTokens, 0>(q, codes, dot);
    const __m256 scale = load_scales<kHalf>(scales);
    const __m256 bias = load_scales<kHalf>(scales + kScalesBytes);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      __m256 part = _mm256_cvtepi32_ps(dot[t]);
      if (steps != nullptr) part = _mm256_mul_ps(part, _mm256_set1_ps(steps[t]));
      acc[t] = _mm256_fmadd_ps(scale, part, acc[t]);
      acc[t] = _mm256_fmadd_ps(bias, _mm256_set1_ps(sums[t]), acc[t]);
    }
    scales += kBlockBytes;
    q += kBlockBytes;
    codes += width * kTokenBytes;
    sums += width;
    if (steps != nullptr) steps += width;
  }
}

using TileKernel = void (*)(const std::uint8_t*,
                            const std::uint8_t*,
                            int,
                            const std::uint8_t*,
                            const float*,
                            const float*,
                            int,
                            __m256*);

struct TileKernels {
  TileKernel by_tokens[kTokensMax];
};

template <int kBits, bool kHalf>
constexpr TileKernels kTiles = {
    {tile<kBits, kHalf, 1>, tile<kBits, kHalf, 2>, tile<kBits, kHalf, 3>, tile<kBits, kHalf, 4>}};

const TileKernels& tiles_for(const PanelView& weight) {
  if (weight.form == PanelForm::kAffine4)
    return weight.half_scales ? kTiles<4, true> : kTiles<4, false>;
  return weight.half_scales ? kTiles<8, true> : kTiles<8, false>;
}

/// The first `rows` of a register's eight.
void store(__m256 values, int rows, float* to) {
  if (rows >= kHalfPanel) {
    _mm256_storeu_ps(to, values);
    return;
  }
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(rows), lanes), values);
}

void multiply(const PanelView& weight,
              int rows,
              int first,
              int last,
              const Codes& in,
              int tokens,
              float* out,
              std::int64_t out_stride) {
  const TileKernels& tiles = tiles_for(weight);
  const int blocks = weight.columns / kPanelColumns;
  const int scale_bytes = weight.half_scales ? 2 : 4;
  for (int panel = first; panel < last; ++panel) {
    const std::uint8_t* const data = weight.data + panel * weight.panel_bytes;
    for (int t = 0; t < tokens; ++t) {
      const int start = t / kCodeTile * kCodeTile;
      const int width = least(kCodeTile, tokens - start);
      const int count = least(kTokensMax, start + width - t);
      for (int half = 0; half < 2; ++half) {
        const int row = panel * kPanelRows + half * kHalfPanel;
        if (row >= rows) break;
        __m256 acc[kTokensMax];
        const std::int64_t sums_at = std::int64_t{start} * blocks + (t - start);
        tiles.by_tokens[count - 1](
            data + half * kHalfPanel * scale_bytes,
            data + 2 * kPanelRows * scale_bytes + half * kHalfPanel * 4,
            blocks,
            in.codes + std::int64_t{start} * weight.columns * 2 + (t - start) * kTokenBytes,
            in.sums + sums_at,
            in.block_scales != nullptr ? in.block_scales + sums_at : nullptr,
            width,
            acc);
        for (int i = 0; i < count; ++i) {
          store(_mm256_mul_ps(acc[i], _mm256_set1_ps(in.scales[t + i])),
                rows - row,
                out + (t + i) * out_stride + row);
        }
      }
      t += count - 1;
    }
  }
}

template <PanelForm kForm>
inline __attribute__((always_inline)) __m256 load_numbers(const std::uint8_t* half, int column) {
  if constexpr (kForm == PanelForm::kFloat32) {
    return _mm256_loadu_ps(
        reinterpret_cast<const float*>(half + std::int64_t{column} * kPanelRows * 4));
  } else {
    const __m128i halves = _mm_loadu_si128(
        reinterpret_cast<const __m128i*>(half + std::int64_t{column} * kPanelRows * 2));
    if constexpr (kForm == PanelForm::kHalf) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
}

/// A panel and kTokens.
template <PanelForm kForm, int kTokens>
void dense_tile(const PanelView& weight,
                int rows,
                int panel,
                const float* x,
                std::int64_t x_stride,
                float* out,
                std::int64_t out_stride) {
  constexpr int kHalfBytes = kHalfPanel * (kForm == PanelForm::kFloat32 ? 4 : 2);
  const std::uint8_t* const data = weight.data + panel * weight.panel_bytes;
  __m256 acc[kTokens * 2];
#pragma GCC unroll 8
  for (int i = 0; i < kTokens * 2; ++i) acc[i] = _mm256_setzero_ps();
  for (int column = 0; column < weight.columns; ++column) {
    const __m256 low = load_numbers<kForm>(data, column);
    const __m256 high = load_numbers<kForm>(data + kHalfBytes, column);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const __m256 value = _mm256_set1_ps(x[t * x_stride + column]);
      acc[2 * t] = _mm256_fmadd_ps(low, value, acc[2 * t]);
      acc[2 * t + 1] = _mm256_fmadd_ps(high, value, acc[2 * t + 1]);
    }
  }
  for (int i = 0; i < kTokens * 2; ++i) {
    const int row = panel * kPanelRows + i % 2 * kHalfPanel;
    if (row < rows) store(acc[i], rows - row, out + i / 2 * out_stride + row);
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
  for (int panel = first; panel < last; ++panel) {
    int t = 0;
    for (; t + kTokensMax <= tokens; t += kTokensMax) {
      dense_tile<kForm, kTokensMax>(
          weight, rows, panel, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
    }
    for (; t < tokens; ++t) {
      dense_tile<kForm, 1>(
          weight, rows, panel, x + t * x_stride, x_stride, out + t * out_stride, out_stride);
    }
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

const ProductKernels kAvx2Kernels = {
    "avx2", &kAvx2Attention, available, encode, multiply, multiply_dense};

}  // namespace mlxs::engine
