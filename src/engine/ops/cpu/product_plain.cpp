#include "engine/ops/cpu/half.h"
#include "engine/ops/cpu/kernel_sets.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace mlxs::engine {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

/// A tile's codes: [block][token][kPanelColumns] of 16 bits.
struct Tile {
  int first, tokens;
};
Tile tile_of(int token, int tokens) {
  const int first = token / kCodeTile * kCodeTile;
  return {first, std::min(kCodeTile, tokens - first)};
}

std::int64_t codes_at(int columns, const Tile& tile, int token, int block) {
  return std::int64_t{tile.first} * columns + std::int64_t{block} * tile.tokens * kPanelColumns +
         (token - tile.first) * kPanelColumns;
}

std::int64_t sum_at(int columns, const Tile& tile, int token, int block) {
  return std::int64_t{tile.first} * (columns / kPanelColumns) + std::int64_t{block} * tile.tokens +
         (token - tile.first);
}

float scale_at(const PanelView& weight, const std::uint8_t* scales, int index) {
  if (weight.half_scales) {
    std::uint16_t half = 0;
    std::memcpy(&half, scales + index * 2, sizeof half);
    return half_to_float(half);
  }
  float value = 0;
  std::memcpy(&value, scales + index * 4, sizeof value);
  return value;
}

int q_at(int bits, const std::uint8_t* q, int lane, int column) {
  const int quad = column / 4;
  const int within = lane * 4 + column % 4;
  if (bits == 8) return q[quad * kPanelRows * 4 + within];
  return q[quad % 4 * kPanelRows * 4 + within] >> (quad / 4 * 4) & 15;
}

bool available() { return true; }

void encode_short(const float* x, int columns, int index, int tokens, const Codes& out) {
  auto* const codes = reinterpret_cast<std::int16_t*>(out.codes);
  const Tile tile = tile_of(index, tokens);
  out.scales[index] = 1;
  for (int block = 0; block < columns / kPanelColumns; ++block) {
    const float* const from = x + block * kPanelColumns;
    float most = 0;
    for (int i = 0; i < kPanelColumns; ++i) {
      // Whatever is not finite makes a block count as zero and its token as not a number.
      most = std::isfinite(from[i]) ? std::max(most, std::abs(from[i])) : kInfinite;
    }
    if (most == kInfinite) out.scales[index] = std::numeric_limits<float>::quiet_NaN();
    const bool nothing = most == kInfinite || most < kTokenMaxMin;
    const float factor = nothing ? 0.0f : static_cast<float>(kShortCodeMax) / most;
    const float scale = nothing ? 0.0f : most / static_cast<float>(kShortCodeMax);
    int sum = 0;
    for (int i = 0; i < kPanelColumns; ++i) {
      const auto code = nothing ? 0 : static_cast<int>(std::nearbyint(from[i] * factor));
      codes[codes_at(columns, tile, index, block) + i] = static_cast<std::int16_t>(code);
      sum += code;
    }
    out.block_scales[sum_at(columns, tile, index, block)] = scale;
    out.sums[sum_at(columns, tile, index, block)] = static_cast<float>(sum) * scale;
  }
}

void encode(const float* x, int columns, int index, int tokens, const Codes& out) {
  if (out.block_scales != nullptr) return encode_short(x, columns, index, tokens, out);
  auto* const codes = reinterpret_cast<std::int16_t*>(out.codes);
  const Tile tile = tile_of(index, tokens);
  float most = 0;
  bool finite = true;
  for (int i = 0; i < columns; ++i) {
    finite = finite && std::isfinite(x[i]);
    most = std::max(most, std::abs(x[i]));
  }
  const bool nothing = !finite || most < kTokenMaxMin;
  const float factor = nothing ? 0.0f : static_cast<float>(kCodeMax) / most;
  out.scales[index] = !finite   ? std::numeric_limits<float>::quiet_NaN()
                      : nothing ? 0.0f
                                : most / static_cast<float>(kCodeMax);
  for (int block = 0; block < columns / kPanelColumns; ++block) {
    int sum = 0;
    for (int i = 0; i < kPanelColumns; ++i) {
      const float value = nothing ? 0.0f : x[block * kPanelColumns + i] * factor;
      const auto code = static_cast<int>(std::nearbyint(value));
      codes[codes_at(columns, tile, index, block) + i] = static_cast<std::int16_t>(code);
      sum += code;
    }
    out.sums[sum_at(columns, tile, index, block)] = static_cast<float>(sum);
  }
}

void multiply(const PanelView& weight,
              int rows,
              int first,
              int last,
              const Codes& in,
              int tokens,
              float* out,
              std::int64_t out_stride) {
  const auto* const codes = reinterpret_cast<const std::int16_t*>(in.codes);
  for (int row = first * kPanelRows; row < std::min(rows, last * kPanelRows); ++row) {
    const int lane = row % kPanelRows;
    for (int t = 0; t < tokens; ++t) {
      const Tile tile = tile_of(t, tokens);
      const std::uint8_t* at = weight.data + row / kPanelRows * weight.panel_bytes;
      float acc = 0;
      for (int block = 0; block < weight.blocks(); ++block, at += weight.block_bytes()) {
        const std::int16_t* code = codes + codes_at(weight.columns, tile, t, block);
        int dot = 0;
        for (int i = 0; i < kPanelColumns; ++i) {
          dot += q_at(weight.bits(), at + weight.scales_bytes(), lane, i) * code[i];
        }
        const std::int64_t place = sum_at(weight.columns, tile, t, block);
        auto part = static_cast<float>(dot);
        if (in.block_scales != nullptr) part *= in.block_scales[place];
        acc = std::fma(scale_at(weight, at, lane), part, acc);
        acc = std::fma(scale_at(weight, at, kPanelRows + lane), in.sums[place], acc);
      }
      out[t * out_stride + row] = acc * in.scales[t];
    }
  }
}

float number_at(const PanelView& weight, int row, int column) {
  const std::uint8_t* panel = weight.data + row / kPanelRows * weight.panel_bytes;
  const int index = column * kPanelRows + row % kPanelRows;
  if (weight.form == PanelForm::kFloat32) {
    float value = 0;
    std::memcpy(&value, panel + std::int64_t{index} * 4, sizeof value);
    return value;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, panel + std::int64_t{index} * 2, sizeof bits);
  return weight.form == PanelForm::kHalf ? half_to_float(bits) : bfloat16_to_float(bits);
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
  for (int row = first * kPanelRows; row < std::min(rows, last * kPanelRows); ++row) {
    for (int t = 0; t < tokens; ++t) {
      float acc = 0;
      for (int i = 0; i < weight.columns; ++i) {
        acc = std::fma(number_at(weight, row, i), x[t * x_stride + i], acc);
      }
      out[t * out_stride + row] = acc;
    }
  }
}

}  // namespace

const ProductKernels kPlainKernels = {
    "plain", &kPlainAttention, available, encode, multiply, multiply_dense};

}  // namespace mlxs::engine
