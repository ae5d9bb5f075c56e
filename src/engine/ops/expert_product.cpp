#include "engine/ops/expert_product.h"

#include "base/assert.h"
#include "engine/ops/parallel.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kPieceProductsMin = 1 << 17;  // As for other products.
constexpr int kPiecesPerThread = 4;
constexpr int kEncodeCost = 4;
constexpr int kTokensAtOnce = 64;
static_assert(kTokensAtOnce % kCodeTile == 0);

/// Rows [first, first + count) of the order have one expert.
struct Group {
  int expert, first, count;
};

/// Panels [begin, end) of a group's expert.
struct Piece {
  int group, begin, end;
};

/// What a product needs besides its operands; grows and stays.
struct Scratch {
  std::vector<int> order;  ///< Rows by expert, those of one in the order they came in.
  std::vector<int> group_of;
  std::vector<Group> groups;
  std::vector<Piece> pieces;
  LineMemory memory;

  /// x as the kernels read it, by the order, and the results.
  std::byte* codes = nullptr;
  float* sums = nullptr;
  float* scales = nullptr;
  float* block_scales = nullptr;  ///< Where the weight asks for eight bits.
  float* rows = nullptr;          ///< Where the weight is dense.
  float* out = nullptr;

  void arrange(const std::int32_t* experts, int count, int experts_total);
  void place(int tokens, int out_rows, const PanelView& weight);
  void cut(int tokens, int columns, int panels);

  [[nodiscard]] Codes codes_of(const Group& group, int columns) const {
    const std::int64_t first = group.first;
    return {reinterpret_cast<std::uint8_t*>(codes) + first * columns * 2,
            sums + first * (columns / kPanelColumns),
            scales + first,
            block_scales == nullptr ? nullptr : block_scales + first * (columns / kPanelColumns)};
  }
};

void Scratch::arrange(const std::int32_t* experts, int count, int experts_total) {
  const auto rows_total = static_cast<std::size_t>(count);
  std::vector<int>& next = group_of;  // First: where an expert's next row goes.
  next.assign(static_cast<std::size_t>(experts_total) + 1, 0);
  for (int i = 0; i < count; ++i) {
    MLXS_ASSERT(experts[i] >= 0 && experts[i] < experts_total);
    ++next[static_cast<std::size_t>(experts[i]) + 1];
  }
  groups.clear();
  for (std::size_t expert = 0; expert + 1 < next.size(); ++expert) {
    const int first = next[expert];
    const int rows_of_it = next[expert + 1];
    if (rows_of_it > 0) groups.push_back({static_cast<int>(expert), first, rows_of_it});
    next[expert + 1] += first;
  }
  order.resize(rows_total);
  for (int i = 0; i < count; ++i) {
    order[static_cast<std::size_t>(next[static_cast<std::size_t>(experts[i])]++)] = i;
  }
  group_of.resize(rows_total);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    std::fill_n(group_of.begin() + groups[g].first, groups[g].count, static_cast<int>(g));
  }
}

void Scratch::place(int tokens, int out_rows, const PanelView& weight) {
  const bool affine = weight.affine();
  const auto count = static_cast<std::size_t>(tokens);
  const auto width = static_cast<std::size_t>(weight.columns);
  const auto floats = [](std::size_t numbers) {
    return LineMemory::round_up(numbers * sizeof(float));
  };
  const std::size_t first =
      affine ? LineMemory::round_up(count * width * 2) : floats(count * width);
  const std::size_t second = affine ? floats(count * (width / kPanelColumns)) : 0;
  const std::size_t third = affine ? floats(count) : 0;
  std::byte* const at = memory.reserve(first + 2 * second + third +
                                       floats(count * static_cast<std::size_t>(out_rows)));
  codes = at;
  rows = reinterpret_cast<float*>(at);
  sums = reinterpret_cast<float*>(at + first);
  block_scales = weight.eight_bits ? reinterpret_cast<float*>(at + first + second) : nullptr;
  scales = reinterpret_cast<float*>(at + first + 2 * second);
  out = reinterpret_cast<float*>(at + first + 2 * second + third);
}

void Scratch::cut(int tokens, int columns, int panels) {
  const std::int64_t products = std::int64_t{tokens} * columns * panels * kPanelRows;
  const std::int64_t share =
      std::max(kPieceProductsMin, products / (std::int64_t{kPiecesPerThread} * compute_threads()));
  pieces.clear();
  for (int g = 0; g < static_cast<int>(groups.size()); ++g) {
    const std::int64_t of_panel =
        std::int64_t{groups[static_cast<std::size_t>(g)].count} * columns * kPanelRows;
    const auto step = static_cast<int>(std::clamp<std::int64_t>(share / of_panel, 1, panels));
    for (int begin = 0; begin < panels; begin += step) {
      pieces.push_back({g, begin, std::min(begin + step, panels)});
    }
  }
}

void multiply_piece(const Scratch& scratch,
                    const PackedMatrix& weight,
                    int out_rows,
                    const Piece& piece) {
  const ProductKernels& kernels = product_kernels();
  const Group& group = scratch.groups[static_cast<std::size_t>(piece.group)];
  const int columns = weight.columns();
  PanelView view = weight.view();
  view.data += std::int64_t{group.expert} * (out_rows / kPanelRows) * view.panel_bytes;
  for (int t = 0; t < group.count; t += kTokensAtOnce) {
    const int tokens = std::min(kTokensAtOnce, group.count - t);
    const Group part{group.expert, group.first + t, tokens};
    float* const to = scratch.out + std::int64_t{part.first} * out_rows;
    if (view.affine()) {
      kernels.multiply(view,
                       out_rows,
                       piece.begin,
                       piece.end,
                       scratch.codes_of(part, columns),
                       tokens,
                       to,
                       out_rows);
    } else {
      kernels.multiply_dense(view,
                             out_rows,
                             piece.begin,
                             piece.end,
                             scratch.rows + std::int64_t{part.first} * columns,
                             columns,
                             tokens,
                             to,
                             out_rows);
    }
  }
}

}  // namespace

void multiply_experts(const TokenRows& x,
                      const PackedMatrix& weight,
                      int rows,
                      const std::int32_t* experts,
                      float* out) {
  if (x.tokens == 0) return;
  MLXS_ASSERT(rows > 0 && rows % kPanelRows == 0 && weight.rows() % rows == 0);
  thread_local Scratch scratch;
  const bool affine = weight.view().affine();
  const int columns = weight.columns();
  scratch.arrange(experts, x.tokens, weight.rows() / rows);
  scratch.place(x.tokens, rows, weight.view());
  scratch.cut(x.tokens, columns, rows / kPanelRows);
  Scratch& mine = scratch;  // Helpers have one of their own.
  parallel_rows(x.tokens, std::int64_t{columns} * kEncodeCost, [&](int first, int last) {
    for (int at = first; at < last; ++at) {
      const float* row = x.data + mine.order[static_cast<std::size_t>(at)] * x.stride;
      if (affine) {
        const auto g = static_cast<std::size_t>(mine.group_of[static_cast<std::size_t>(at)]);
        const Group& group = mine.groups[g];
        product_kernels().encode(
            row, columns, at - group.first, group.count, mine.codes_of(group, columns));
      } else {
        std::memcpy(mine.rows + std::int64_t{at} * columns,
                    row,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    }
  });
  parallel_for(static_cast<int>(mine.pieces.size()), [&](int i) {
    multiply_piece(mine, weight, rows, mine.pieces[static_cast<std::size_t>(i)]);
  });
  parallel_rows(x.tokens, rows, [&](int first, int last) {
    for (int at = first; at < last; ++at) {
      std::memcpy(out + std::int64_t{mine.order[static_cast<std::size_t>(at)]} * rows,
                  mine.out + std::int64_t{at} * rows,
                  static_cast<std::size_t>(rows) * sizeof(float));
    }
  });
}

}  // namespace mlxs::engine
