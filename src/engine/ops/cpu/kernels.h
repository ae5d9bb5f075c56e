#pragma once

#include "engine/ops/cpu/attention_kernels.h"

#include <cstdint>
#include <span>

namespace mlxs::engine {

inline constexpr int kPanelRows = 16;     ///< Of the weight, side by side.
inline constexpr int kPanelColumns = 32;  ///< That share a scale.
inline constexpr int kCodeTile = 8;       ///< Tokens side by side.
inline constexpr int kCodeMax = 32512;    ///< 127·256

/// What a panel holds: groups of whole numbers, or each number as it is.
enum class PanelForm : std::uint8_t { kAffine4, kAffine8, kBfloat16, kHalf, kFloat32 };
inline constexpr int kPanelForms = 5;

/// Raised whenever the bytes of a panel come to mean something else: packed weights are kept on
/// disk.
inline constexpr int kPanelLayout = 1;

/// A weight as the kernels read it: panels of kPanelRows rows, behind each other. Dense ones are
/// [columns][kPanelRows] numbers. Affine ones are a run of blocks of kPanelColumns columns, each
///   scales [kPanelRows], biases [kPanelRows]   half precision or float32
///   q                                          by quads of neighbouring columns, [rows][4]
/// where at 8 bits the quads follow each other, and at 4 bits byte i of quad j < 4 holds that of
/// quad j in its low half and of quad j + 4 in its high half. Rows that pad the last panel are
/// zero.
struct PanelView {
  const std::uint8_t* data = nullptr;
  std::int64_t panel_bytes = 0;
  int columns = 0;
  PanelForm form = PanelForm::kFloat32;
  bool half_scales = false;  ///< Scales and biases are half precision.
  bool eight_bits = false;   ///< Activations that meet it are rounded to eight bits, not sixteen.

  [[nodiscard]] bool affine() const {
    return form == PanelForm::kAffine4 || form == PanelForm::kAffine8;
  }
  [[nodiscard]] int bits() const {
    if (form == PanelForm::kAffine4) return 4;
    if (form == PanelForm::kAffine8) return 8;
    return form == PanelForm::kFloat32 ? 32 : 16;
  }
  /// What `panel_bytes` is where panels lie behind each other.
  [[nodiscard]] std::int64_t packed_panel_bytes() const {
    if (affine()) return std::int64_t{blocks()} * block_bytes();
    return std::int64_t{columns} * kPanelRows * bits() / 8;
  }
  // Of affine panels:

  [[nodiscard]] int blocks() const { return columns / kPanelColumns; }
  [[nodiscard]] int scales_bytes() const { return 2 * kPanelRows * (half_scales ? 2 : 4); }
  [[nodiscard]] int block_bytes() const {
    return scales_bytes() + kPanelRows * kPanelColumns * bits() / 8;
  }
};

/// Activations rounded to whole numbers, `code` = round(x · kCodeMax / max|x|) with the maximum
/// over the token: 16 bits, of which one token's quietest channels still have more than eight where
/// the loudest is a hundred times louder. Tokens come in tiles of kCodeTile, the last one shorter;
/// a tile of n tokens holds, for each block of kPanelColumns, 2·kPanelColumns bytes a token in an
/// order that is the kernels' own, and a sum of codes a token.
struct Codes {
  std::uint8_t* codes = nullptr;  ///< 2·columns bytes a token, aligned to 64
  float* sums = nullptr;          ///< columns/kPanelColumns a token
  float* scales = nullptr;        ///< One a token: x ≈ code · scale
  /// Where there are any, codes have eight bits, -127 to 127, and each block of a token a scale of
  /// its own: x ≈ code · block scale. They lie as the sums do, which carry them; `scales` are 1.
  float* block_scales = nullptr;
};
inline constexpr int kShortCodeMax = 127;

/// The product over whole numbers, for one instruction set. All sets give the same bits: sums over
/// a block are exact, and what follows is the same few float32 operations in the same order
///   acc = fma(scale, sum(q·code), acc);  acc = fma(bias, sum(code), acc)     block by block
///   out = acc · (the token's scale)
/// where with eight bits sum(q·code) is multiplied by the block's scale first.
/// A token with something not finite gives not-a-number throughout, one below 1e-30 gives zero.
/// Dense weights meet activations as they are: acc = fma(weight, x, acc), column by column.
struct ProductKernels {
  const char* name;
  const AttentionKernels* attention;  ///< Of the same instruction set.
  bool (*available)();
  /// Rounds token `index` of `tokens`, x[columns].
  void (*encode)(const float* x, int columns, int index, int tokens, const Codes& out);
  /// out[t, row] for tokens [0, tokens) and the rows of panels [first, last), those below `rows`.
  void (*multiply)(const PanelView& weight,
                   int rows,
                   int first,
                   int last,
                   const Codes& codes,
                   int tokens,
                   float* out,
                   std::int64_t out_stride);
  /// The same for dense weights: x[t · x_stride + column].
  void (*multiply_dense)(const PanelView& weight,
                         int rows,
                         int first,
                         int last,
                         const float* x,
                         std::int64_t x_stride,
                         int tokens,
                         float* out,
                         std::int64_t out_stride);
};

/// All that are compiled in, plainest first.
[[nodiscard]] std::span<const ProductKernels* const> all_product_kernels();

/// The best this machine has, or the one that the environment variable MLXS_CPU_ISA names (plain,
/// avx2, avx512vnni) when that is there. Chosen once.
[[nodiscard]] const ProductKernels& product_kernels();

}  // namespace mlxs::engine
