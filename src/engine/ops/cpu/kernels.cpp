#include "engine/ops/cpu/kernels.h"

#include "engine/ops/cpu/kernel_sets.h"

#include <array>
#include <cstdlib>
#include <string_view>

namespace mlxs::engine {
namespace {

constexpr std::array kAll = {
    &kPlainKernels,
#ifdef __x86_64__
    &kAvx2Kernels,
    &kAvx512VnniKernels,
#endif
};

const ProductKernels& choose() {
  const char* const wanted = std::getenv("MLXS_CPU_ISA");
  const ProductKernels* best = kAll.front();
  for (const ProductKernels* kernels : kAll) {
    if (!kernels->available()) continue;
    if (wanted != nullptr && std::string_view(wanted) == kernels->name) return *kernels;
    best = kernels;
  }
  return *best;
}

}  // namespace

std::span<const ProductKernels* const> all_product_kernels() { return kAll; }

const ProductKernels& product_kernels() {
  static const ProductKernels& chosen = choose();
  return chosen;
}

}  // namespace mlxs::engine
