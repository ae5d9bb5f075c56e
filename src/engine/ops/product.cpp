#include "engine/ops/product.h"

#include "base/assert.h"
#include "engine/ops/parallel.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace mlxs::engine {
namespace {

// A piece has at least this many multiplications, some 10 µs of one core at one token.
constexpr std::int64_t kPieceProductsMin = 1 << 17;
constexpr int kPiecesPerThread = 4;
constexpr int kEncodeCost = 4;  // Of an element, against others' elementwise work.

/// Memory for codes that grows and stays.
class Scratch {
 public:
  Codes reserve(int tokens, int columns) {
    const auto count = static_cast<std::size_t>(tokens);
    const auto width = static_cast<std::size_t>(columns);
    const std::size_t codes = round_up(count * width * 2);
    const std::size_t sums = round_up(count * (width / kPanelColumns) * sizeof(float));
    const std::size_t all = codes + sums + round_up(count * sizeof(float));
    if (all > size_) {
      memory_.reset(static_cast<std::byte*>(::operator new(all, std::align_val_t{kLine})));
      size_ = all;
    }
    std::byte* const data = memory_.get();
    return {reinterpret_cast<std::uint8_t*>(data),
            reinterpret_cast<float*>(data + codes),
            reinterpret_cast<float*>(data + codes + sums)};
  }

 private:
  static constexpr std::size_t kLine = 64;
  static std::size_t round_up(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t{kLine}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_ = 0;
};

}  // namespace

void multiply(const TokenRows& x, const PackedMatrix& weight, float* out) {
  if (x.tokens == 0) return;
  thread_local Scratch scratch;
  const ProductKernels& kernels = product_kernels();
  const int columns = weight.columns();
  const bool affine = weight.view().affine();
  Codes codes;
  if (affine) {
    codes = scratch.reserve(x.tokens, columns);
    parallel_rows(x.tokens, std::int64_t{columns} * kEncodeCost, [&](int first, int last) {
      for (int t = first; t < last; ++t) {
        kernels.encode(x.data + t * x.stride, columns, t, x.tokens, codes);
      }
    });
  }
  const std::int64_t products = std::int64_t{x.tokens} * weight.rows() * columns;
  const std::int64_t wanted = std::min<std::int64_t>(
      products / kPieceProductsMin, std::int64_t{kPiecesPerThread} * compute_threads());
  const int panels = weight.panels();
  const int pieces = static_cast<int>(std::clamp<std::int64_t>(wanted, 1, panels));
  parallel_for(pieces, [&](int piece) {
    const auto edge = [&](int i) { return static_cast<int>(std::int64_t{panels} * i / pieces); };
    const int first = edge(piece);
    const int last = edge(piece + 1);
    const int rows = weight.rows();
    if (affine) {
      kernels.multiply(weight.view(), rows, first, last, codes, x.tokens, out, rows);
    } else {
      kernels.multiply_dense(
          weight.view(), rows, first, last, x.data, x.stride, x.tokens, out, rows);
    }
  });
}

}  // namespace mlxs::engine
