// How near the CPU kernels come to what the machine can do:
//
//     kernel_bench [--page] [TOKENS...]
//
// Measures the limits of one core (reading memory, `vpdpbusd` on registers where there is one), and
// then for each instruction set that this machine has, each matrix shape of SmolLM2-135M and each
// number of tokens (default 1, 8, 32, 512) what a product reaches on one core: bytes of weight read
// and operations (a product and a sum each) a second, and the larger of their shares of the limits.
// A code of sixteen bits costs two of the machine's operations, one of eight bits one; dense
// weights are held against the limit of float32's sums. Weights are taken from enough copies that
// no cache holds them all. Fastest of several runs. With --page as Markdown.

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/packed_matrix.h"
#include "engine/ops/cpu/weight_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

using namespace mlxs::engine;

constexpr int kRuns = 7;
constexpr std::size_t kCopiesBytes = std::size_t{96} << 20;
[[maybe_unused]] constexpr std::size_t kReadBytes = std::size_t{256} << 20;

/// `bits`: of whole numbers; 16: bfloat16.
struct Shape {
  const char* name;
  int rows, columns, bits;
  bool eight_bits;  ///< Of activations.
};
constexpr Shape kShapes[] = {{"qkv", 960, 576, 4, false},
                             {"gate+up", 3072, 576, 4, false},
                             {"gate+up, int8", 3072, 576, 4, true},
                             {"down", 576, 1536, 4, false},
                             {"head", 49152, 576, 8, false},
                             {"head, int8", 49152, 576, 8, true},
                             {"gate+up, bfloat16", 3072, 576, 16, false}};

/// Of one core.
struct Limits {
  double bytes = 0;       ///< Read from memory, a second.
  double whole = 0;       ///< Operations on whole numbers; 0: not measured.
  double float_sums = 0;  ///< In float32.
};

double fastest(const std::function<void()>& work) {
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < kRuns; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

#ifdef __x86_64__
/// Sums up `bytes` bytes, as fast as loads go.
__attribute__((target("avx2"))) void read_all(const std::byte* data, std::size_t bytes) {
  __m256i sums[8];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  for (std::size_t i = 0; i < bytes; i += sizeof sums) {
#pragma GCC unroll 8
    for (std::size_t k = 0; k < 8; ++k) {
      const auto* at = reinterpret_cast<const __m256i*>(data + i) + k;
      sums[k] = _mm256_xor_si256(sums[k], _mm256_load_si256(at));
    }
  }
  for (auto& sum : sums) __asm__ volatile("" : "+x"(sum));
}

// Written out, so that nothing but the instruction is measured. Twelve sums: more than are under
// way at once.
constexpr std::int64_t kCount = 1'000'000;
constexpr int kSums = 12;

__attribute__((target("avx512f,avx512vnni"))) void dot_products() {
  __m512i sums[kSums];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t i = 0; i < kCount; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(ones));
  }
}

__attribute__((target("avx2,fma"))) void float_sums() {
  __m256 sums[kSums];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  const __m256 ones = _mm256_set1_ps(1);
  for (std::int64_t i = 0; i < kCount; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(ones));
  }
}
#endif

Limits measure_limits() {
  Limits limits;
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2")) {
    const auto memory = allocate_weights(kReadBytes);
    std::memset(memory.get(), 1, kReadBytes);
    limits.bytes = kReadBytes / fastest([&] { read_all(memory.get(), kReadBytes); });
  }
  if (__builtin_cpu_supports("avx512vnni"))
    limits.whole = kCount * kSums * 128 / fastest([] { dot_products(); });
  if (__builtin_cpu_supports("fma"))
    limits.float_sums = kCount * kSums * 16 / fastest([] { float_sums(); });
#endif
  return limits;
}

PackedMatrix make_matrix(const Shape& shape) {
  const auto elements =
      static_cast<std::size_t>(shape.rows) * static_cast<std::size_t>(shape.columns);
  if (shape.bits == 16) {
    const std::vector<float> numbers(elements, 0.5f);
    return PackedMatrix(DenseMatrix{shape.rows, shape.columns, numbers.data()});
  }
  const std::vector<std::uint32_t> data(elements * static_cast<std::size_t>(shape.bits) / 32,
                                        0x12345678u);
  const std::vector<float> scales(elements / 32, 0.5f);
  const std::vector<float> biases(elements / 32, -4.0f);
  const PackedMatrix matrix(AffineMatrix{
      shape.rows, shape.columns, shape.bits, 32, data.data(), scales.data(), biases.data()});
  return shape.eight_bits ? matrix.with_eight_bits() : matrix;
}

void measure(const ProductKernels& kernels,
             const Shape& shape,
             const std::vector<PackedMatrix>& copies,
             int tokens,
             const Limits& limits,
             bool page) {
  const auto count = static_cast<std::size_t>(tokens);
  const auto columns = static_cast<std::size_t>(shape.columns);
  std::vector<float> x(count * columns);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) - 6.0f;
  std::vector<std::uint8_t> codes(count * columns * 2 + 64);
  std::vector<float> sums(count * columns / 32);
  std::vector<float> scales(count);
  std::vector<float> out(count * static_cast<std::size_t>(shape.rows));
  auto* const aligned = codes.data() + (64 - reinterpret_cast<std::uintptr_t>(codes.data()) % 64);
  std::vector<float> block_scales(sums.size());
  const Codes in{
      aligned, sums.data(), scales.data(), shape.eight_bits ? block_scales.data() : nullptr};
  const bool dense = shape.bits == 16;
  for (int t = 0; t < tokens && !dense; ++t) {
    kernels.encode(x.data() + t * shape.columns, shape.columns, t, tokens, in);
  }
  // Few tokens: all copies, so that weights come from memory. Many: one is enough.
  const std::size_t used = tokens < 32 ? copies.size() : 1;
  const double seconds = fastest([&] {
    for (std::size_t i = 0; i < used; ++i) {
      const PackedMatrix& one = copies[i];
      if (dense) {
        kernels.multiply_dense(one.view(),
                               shape.rows,
                               0,
                               one.panels(),
                               x.data(),
                               shape.columns,
                               tokens,
                               out.data(),
                               shape.rows);
      } else {
        kernels.multiply(
            one.view(), shape.rows, 0, one.panels(), in, tokens, out.data(), shape.rows);
      }
    }
  });
  const double operations =
      2.0 * tokens * shape.rows * shape.columns * static_cast<double>(used) / seconds;
  const double bytes = static_cast<double>(copies.front().bytes() * used) / seconds;
  const double passes = shape.eight_bits || dense ? 1 : 2;
  const double peak = dense ? limits.float_sums : limits.whole / passes;
  // What one matrix reads comes from the cache.
  const double share =
      std::max(used > 1 ? bytes / limits.bytes : 0, peak > 0 ? operations / peak : 0);
  fmt::print(
      fmt::runtime(page ? "| {} | {} | {} | {:.1f} | {:.0f} | {:.0f} % |\n"
                        : "{:>12} {:>18} {:>4} tokens: {:6.1f} GB/s {:7.0f} GOP/s {:4.0f} %\n"),
      kernels.name,
      shape.name,
      tokens,
      bytes / 1e9,
      operations / 1e9,
      share * 100);
}

}  // namespace

int main(int argc, char** argv) {
  const bool page = argc > 1 && std::string_view(argv[1]) == "--page";
  std::vector<int> tokens;
  for (int i = page ? 2 : 1; i < argc; ++i) tokens.push_back(std::max(1, std::atoi(argv[i])));
  if (tokens.empty()) tokens = {1, 8, 32, 512};
  const Limits limits = measure_limits();
  fmt::print(
      "One core reads {:.1f} GB/s from memory, does {:.0f} GOP/s with `vpdpbusd` and {:.0f} "
      "with `vfmadd` on 256 bits.\n\n",
      limits.bytes / 1e9,
      limits.whole / 1e9,
      limits.float_sums / 1e9);
  if (page) {
    fmt::print(
        "| instruction set | matrix | tokens | GB/s | GOP/s | of the limit |\n"
        "|---|---|---|---|---|---|\n");
  }
  for (const Shape& shape : kShapes) {
    std::vector<PackedMatrix> copies{make_matrix(shape)};
    while (copies.front().bytes() * copies.size() < kCopiesBytes)
      copies.push_back(make_matrix(shape));
    for (const ProductKernels* kernels : all_product_kernels()) {
      if (!kernels->available() || kernels == all_product_kernels().front()) continue;
      for (const int count : tokens) measure(*kernels, shape, copies, count, limits, page);
    }
  }
  return 0;
}
