#include "engine/ops/product.h"

#include "base/assert.h"
#include "engine/ops/parallel.h"

#include <algorithm>
#include <cstddef>

namespace mlxs::engine {
namespace {

// A piece has at least this many multiplications, some 10 µs of one core at one token.
constexpr std::int64_t kPieceProductsMin = 1 << 17;
constexpr int kPiecesPerThread = 4;
constexpr int kEncodeCost = 4;  // Of an element, against others' elementwise work.
// Tokens that meet a piece's weights before the next ones do, so that both stay in a core's cache.
constexpr int kTokensAtOnce = 64;
static_assert(kTokensAtOnce % kCodeTile == 0);

Codes place_codes(std::byte* at, int tokens, int columns, bool eight_bits) {
  const auto count = static_cast<std::size_t>(tokens);
  const auto width = static_cast<std::size_t>(columns);
  const std::size_t codes = LineMemory::round_up(count * width * 2);
  const std::size_t sums = LineMemory::round_up(count * (width / kPanelColumns) * sizeof(float));
  return {reinterpret_cast<std::uint8_t*>(at),
          reinterpret_cast<float*>(at + codes),
          reinterpret_cast<float*>(at + codes + 2 * sums),
          eight_bits ? reinterpret_cast<float*>(at + codes + sums) : nullptr};
}

std::size_t codes_size(int tokens, int columns) {
  const auto count = static_cast<std::size_t>(tokens);
  const auto width = static_cast<std::size_t>(columns);
  return LineMemory::round_up(count * width * 2) +
         2 * LineMemory::round_up(count * (width / kPanelColumns) * sizeof(float)) +
         LineMemory::round_up(count * sizeof(float));
}

/// Codes, or the same tokens as numbers: what a weight's form asks for.
struct Input {
  Codes codes;
  TokenRows rows;

  [[nodiscard]] Input from(int token, int columns) const {
    const std::int64_t blocks = columns / kPanelColumns;
    Input rest = *this;
    if (codes.codes != nullptr) {
      rest.codes = {codes.codes + std::int64_t{token} * columns * 2,
                    codes.sums + token * blocks,
                    codes.scales + token,
                    codes.block_scales == nullptr ? nullptr : codes.block_scales + token * blocks};
    }
    rest.rows.data += token * rows.stride;
    rest.rows.tokens -= token;
    return rest;
  }
};

/// Panels [first, last) of a weight, for all tokens.
void multiply_panels(const Input& input,
                     const PackedMatrix& weight,
                     int first,
                     int last,
                     float* out,
                     std::int64_t out_stride) {
  const ProductKernels& kernels = product_kernels();
  for (int t = 0; t < input.rows.tokens; t += kTokensAtOnce) {
    const Input part = input.from(t, weight.columns());
    const int tokens = std::min(kTokensAtOnce, part.rows.tokens);
    float* const to = out + t * out_stride;
    if (weight.view().affine()) {
      kernels.multiply(
          weight.view(), weight.rows(), first, last, part.codes, tokens, to, out_stride);
    } else {
      kernels.multiply_dense(weight.view(),
                             weight.rows(),
                             first,
                             last,
                             part.rows.data,
                             part.rows.stride,
                             tokens,
                             to,
                             out_stride);
    }
  }
}

int pieces_of(int tokens, std::int64_t rows, int columns, int panels) {
  const std::int64_t wanted =
      std::min<std::int64_t>(tokens * rows * columns / kPieceProductsMin,
                             std::int64_t{kPiecesPerThread} * compute_threads());
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, panels));
}

int edge(int panels, int pieces, int i) {
  return static_cast<int>(std::int64_t{panels} * i / pieces);
}

}  // namespace

void multiply(const TokenRows& x, const PackedMatrix& weight, float* out) {
  if (x.tokens == 0) return;
  thread_local LineMemory scratch;
  const ProductKernels& kernels = product_kernels();
  const int columns = weight.columns();
  Input input{{}, x};
  if (weight.view().affine()) {
    const Codes codes = place_codes(scratch.reserve(codes_size(x.tokens, columns)),
                                    x.tokens,
                                    columns,
                                    weight.view().eight_bits);
    parallel_rows(x.tokens, std::int64_t{columns} * kEncodeCost, [&](int first, int last) {
      for (int t = first; t < last; ++t) {
        kernels.encode(x.data + t * x.stride, columns, t, x.tokens, codes);
      }
    });
    input.codes = codes;
  }
  const int panels = weight.panels();
  const int pieces = pieces_of(x.tokens, weight.rows(), columns, panels);
  parallel_for(pieces, [&](int i) {
    multiply_panels(
        input, weight, edge(panels, pieces, i), edge(panels, pieces, i + 1), out, weight.rows());
  });
}

void ProductInput::start(int tokens, int columns, bool encoded) {
  tokens_ = tokens;
  columns_ = columns;
  encoded_ = encoded;
  const std::size_t rows = LineMemory::round_up(static_cast<std::size_t>(tokens) *
                                                static_cast<std::size_t>(columns) * sizeof(float));
  std::byte* const at = memory_.reserve(rows + codes_size(tokens, columns));
  rows_ = reinterpret_cast<float*>(at);
  codes_ = place_codes(at + rows, tokens, columns, eight_bits_);
}

void ProductInput::finish(int token) const {
  if (encoded_) product_kernels().encode(row(token), columns_, token, tokens_, codes_);
}

void multiply(const ProductInput& x,
              const std::vector<std::shared_ptr<const PackedMatrix>>& weights,
              float* out) {
  if (x.tokens() == 0) return;
  int panels = 0;
  int rows = 0;
  for (const auto& weight : weights) {
    MLXS_ASSERT(weight->columns() == x.columns() && (x.encoded_ || !weight->view().affine()));
    MLXS_ASSERT(weight->view().eight_bits == x.eight_bits_);
    panels += weight->panels();
    rows += weight->rows();
  }
  const Input input{x.codes_, {x.rows_, x.tokens(), x.columns()}};
  const int pieces = pieces_of(x.tokens(), rows, x.columns(), panels);
  parallel_for(pieces, [&](int i) {
    int first = edge(panels, pieces, i);
    int last = edge(panels, pieces, i + 1);
    float* to = out;
    for (const auto& weight : weights) {
      const int begin = std::max(first, 0);
      const int end = std::min(last, weight->panels());
      if (begin < end) multiply_panels(input, *weight, begin, end, to, rows);
      first -= weight->panels();
      last -= weight->panels();
      to += weight->rows();
    }
  });
}

}  // namespace mlxs::engine
