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

}  // namespace

const ProductKernels& choose_product_kernels(const char* wanted) {
  const ProductKernels* best = kAll.front();
  for (const ProductKernels* kernels : kAll) {
    if (!kernels->available()) continue;
    if (wanted != nullptr && std::string_view(wanted) == kernels->name) return *kernels;
    best = kernels;
  }
  return *best;
}

std::span<const ProductKernels* const> all_product_kernels() { return kAll; }

const ProductKernels& product_kernels() {
  static const ProductKernels& chosen = choose_product_kernels(std::getenv("MLXS_CPU_ISA"));
  return chosen;
}

}  // namespace mlxs::engine
