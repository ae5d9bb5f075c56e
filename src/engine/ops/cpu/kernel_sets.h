#pragma once

#include "engine/ops/cpu/kernels.h"

namespace mlxs::engine {

/// Plain C++: what the others are tested against, and what machines without them use.
extern const ProductKernels kPlainKernels;
/// AVX2, FMA and F16C. Codes are pairs of 16 bits for `vpmaddwd`, since `vpmaddubsw` saturates.
extern const ProductKernels kAvx2Kernels;
/// AVX-512 (F, BW, VL, DQ) and VNNI. A code is two bytes, 256·high + low, each for `vpdpbusd`.
extern const ProductKernels kAvx512VnniKernels;

/// The best that this machine has, or the one named `wanted` when that is there; null: the best.
[[nodiscard]] const ProductKernels& choose_product_kernels(const char* wanted);

inline constexpr float kTokenMaxMin = 1e-30f;  ///< A token that stays below counts as zero.

}  // namespace mlxs::engine
