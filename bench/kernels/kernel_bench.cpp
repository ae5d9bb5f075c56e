// How near the CPU kernels come to what the machine can do:
//
//     kernel_bench [TOKENS...]
//
// Prints the limits of one core (reading memory, and `vpdpbusd` on registers where there is one),
// then for each instruction set that this machine has, each matrix shape of SmolLM2-135M and each
// number of tokens (default 1, 8, 32, 512) what a product reaches on one core: bytes of weight read
// and whole-number operations (a product and a sum each) a second. A code is two bytes, so that an
// operation of the product costs two of the machine's. Weights are taken from enough copies that no
// cache holds them all. Fastest of several runs.

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/packed_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace {

using namespace mlxs::engine;

constexpr int kRuns = 7;
constexpr std::size_t kCopiesBytes = std::size_t{96} << 20;

struct Shape {
  const char* name;
  int rows, columns, bits;
};
constexpr Shape kShapes[] = {{"qkv", 960, 576, 4},
                             {"gate+up", 3072, 576, 4},
                             {"down", 576, 1536, 4},
                             {"head", 49152, 576, 8}};

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

void print_read_rate() {
  std::vector<std::uint64_t> memory(kCopiesBytes / 8 * 2, 1);
  volatile std::uint64_t sink = 0;
  const double seconds = fastest([&] {
    std::uint64_t sums[8] = {};
    for (std::size_t i = 0; i < memory.size(); i += 8) {
      for (std::size_t k = 0; k < 8; ++k) sums[k] += memory[i + k];
    }
    for (const std::uint64_t sum : sums) sink = sink + sum;
  });
  fmt::print("reading memory: {:.1f} GB/s\n",
             static_cast<double>(memory.size()) * 8 / seconds / 1e9);
}

#ifdef __x86_64__
__attribute__((target("avx512f,avx512vnni"))) void dot_products(std::int64_t count) {
  __m512i sums[10];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 10
    for (auto& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, ones, ones);
      __asm__ volatile("" : "+v"(sum));  // Each has to be computed.
    }
  }
}

void print_dot_rate() {
  if (!__builtin_cpu_supports("avx512vnni")) return;
  constexpr std::int64_t kCount = 2'000'000;
  const double seconds = fastest([] { dot_products(kCount); });
  fmt::print("vpdpbusd: {:.0f} GOP/s\n", kCount * 10 * 128 / seconds / 1e9);
}
#else
void print_dot_rate() {}
#endif

PackedMatrix make_matrix(const Shape& shape) {
  const auto elements =
      static_cast<std::size_t>(shape.rows) * static_cast<std::size_t>(shape.columns);
  const std::vector<std::uint32_t> data(elements * static_cast<std::size_t>(shape.bits) / 32,
                                        0x12345678u);
  const std::vector<float> scales(elements / 32, 0.5f);
  const std::vector<float> biases(elements / 32, -4.0f);
  return PackedMatrix(AffineMatrix{
      shape.rows, shape.columns, shape.bits, 32, data.data(), scales.data(), biases.data()});
}

void measure(const ProductKernels& kernels,
             const Shape& shape,
             const std::vector<PackedMatrix>& copies,
             int tokens) {
  const auto count = static_cast<std::size_t>(tokens);
  const auto columns = static_cast<std::size_t>(shape.columns);
  std::vector<float> x(count * columns);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 13) - 6.0f;
  std::vector<std::uint8_t> codes(count * columns * 2 + 64);
  std::vector<float> sums(count * columns / 32);
  std::vector<float> scales(count);
  std::vector<float> out(count * static_cast<std::size_t>(shape.rows));
  auto* const aligned = codes.data() + (64 - reinterpret_cast<std::uintptr_t>(codes.data()) % 64);
  const Codes in{aligned, sums.data(), scales.data()};
  for (int t = 0; t < tokens; ++t) {
    kernels.encode(x.data() + t * shape.columns, shape.columns, t, tokens, in);
  }
  // Few tokens: all copies, so that weights come from memory. Many: one is enough.
  const std::size_t used = tokens < 32 ? copies.size() : 1;
  const double seconds = fastest([&] {
    for (std::size_t i = 0; i < used; ++i) {
      kernels.multiply(
          copies[i].view(), shape.rows, 0, copies[i].panels(), in, tokens, out.data(), shape.rows);
    }
  });
  const double operations = 2.0 * tokens * shape.rows * shape.columns * static_cast<double>(used);
  fmt::print("{:>12} {:>8} {:>4} tokens: {:6.1f} GB/s {:7.1f} GOP/s\n",
             kernels.name,
             shape.name,
             tokens,
             static_cast<double>(copies.front().bytes() * used) / seconds / 1e9,
             operations / seconds / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> tokens;
  for (int i = 1; i < argc; ++i) tokens.push_back(std::max(1, std::atoi(argv[i])));
  if (tokens.empty()) tokens = {1, 8, 32, 512};
  print_read_rate();
  print_dot_rate();
  for (const Shape& shape : kShapes) {
    std::vector<PackedMatrix> copies{make_matrix(shape)};
    while (copies.front().bytes() * copies.size() < kCopiesBytes)
      copies.push_back(make_matrix(shape));
    for (const ProductKernels* kernels : all_product_kernels()) {
      if (!kernels->available() || kernels == all_product_kernels().front()) continue;
      for (const int count : tokens) measure(*kernels, shape, copies, count);
    }
  }
  return 0;
}
