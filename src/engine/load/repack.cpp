#include "engine/load/repack.h"

#include "base/assert.h"
#include "engine/load/blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kElementsPerThreadMin = 1
                                               << 16;  // Below, a thread costs more than it saves.
constexpr std::int64_t kThreadsMax = 16;
constexpr std::size_t kBlockElementsMax = 256;

// Bits that keep what is lost below a quarter of what the type lost itself (docs/models.md).
constexpr int kSpreadQ2Bits = 4;
constexpr int kSpreadQ3Bits = 5;

/// Calls `work(first, last)` for ranges that cover [0, rows), on several threads where it pays.
template <class Work>
void for_row_ranges(const TensorView& tensor, const Work& work) {
  const std::int64_t rows = tensor.rows();
  const std::int64_t useful = tensor.elements() / kElementsPerThreadMin;
  const auto cores = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  const auto threads = std::max<std::int64_t>(1, std::min({useful, cores, kThreadsMax, rows}));
  std::vector<std::jthread> helpers;
  for (std::int64_t i = 1; i < threads; ++i) {
    helpers.emplace_back(
        [&work, rows, threads, i] { work(rows * i / threads, rows * (i + 1) / threads); });
  }
  work(0, rows / threads);
}

/// Writes 32 values of `bits` bits each behind each other, lowest bits first, as MLX packs them.
void pack(const std::uint8_t* q, int bits, std::uint32_t* out) {
  std::uint64_t waiting = 0;
  int held = 0;
  for (int i = 0; i < kGroupElements; ++i) {
    waiting |= std::uint64_t{q[i]} << held;
    held += bits;
    if (held < 32) continue;
    *out++ = static_cast<std::uint32_t>(waiting);
    waiting >>= 32;
    held -= 32;
  }
}

/// Spreads 32 values evenly between their least and greatest.
BlockGroup spread(const float* values, int bits) {
  const auto [least, greatest] = std::minmax_element(values, values + kGroupElements);
  const auto steps = static_cast<float>((1 << bits) - 1);
  BlockGroup group{.scale = (*greatest - *least) / steps, .offset = *least};
  for (int i = 0; i < kGroupElements; ++i) {
    const float place = std::round((values[i] - *least) / group.scale);
    // A damaged file may hold what is no number; 0 / 0 is none either.
    group.q[static_cast<std::size_t>(i)] =
        place > 0 ? static_cast<std::uint8_t>(std::min(place, steps)) : std::uint8_t{0};
  }
  return group;
}

}  // namespace

void copy_rows(const TensorView& tensor, std::byte* out) {
  if (tensor.interleaved_heads == 0) {
    if (!tensor.bytes.empty()) std::memcpy(out, tensor.bytes.data(), tensor.bytes.size());
    return;
  }
  for_row_ranges(tensor, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      const auto bytes = tensor.row(row);
      std::memcpy(out + static_cast<std::size_t>(row) * bytes.size(), bytes.data(), bytes.size());
    }
  });
}

void widen_rows(const TensorView& tensor, float* out) {
  const std::int64_t columns = tensor.columns();
  for_row_ranges(tensor, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      widen(tensor.type, tensor.row(row), columns, out + row * columns);
    }
  });
}

int affine_bits(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
      return 4;
    case TensorType::kQ5_0:
    case TensorType::kQ5_1:
    case TensorType::kQ5_K:
      return 5;
    case TensorType::kQ2_K:
      return kSpreadQ2Bits;
    case TensorType::kQ3_K:
      return kSpreadQ3Bits;
    case TensorType::kQ6_K:
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:
    case TensorType::kIQ4_XS:
    case TensorType::kMXFP4:
      return 8;
    default:
      MLXS_ASSERT(false && "a type with an affine form");
      return 0;
  }
}

void to_affine(const TensorView& tensor, std::uint32_t* packed, float* scales, float* biases) {
  const int elements = block_elements(tensor.type);
  const int block_groups = elements / kGroupElements;
  const std::int64_t blocks = tensor.columns() / elements;
  const std::int64_t block_bytes = row_bytes(tensor.type, elements);
  const int bits = affine_bits(tensor.type);
  const bool exact = has_groups(tensor.type);
  for_row_ranges(tensor, [&](std::int64_t first, std::int64_t last) {
    std::array<float, kBlockElementsMax> wide{};
    for (std::int64_t row = first; row < last; ++row) {
      const auto bytes = tensor.row(row);
      for (std::int64_t i = 0; i < blocks; ++i) {
        const std::byte* block = bytes.data() + i * block_bytes;
        if (!exact) widen_block(tensor.type, block, wide.data());
        for (int k = 0; k < block_groups; ++k) {
          const BlockGroup group = exact ? read_group(tensor.type, block, k)
                                         : spread(wide.data() + k * kGroupElements, bits);
          const std::int64_t at = (row * blocks + i) * block_groups + k;
          scales[at] = group.scale;
          biases[at] = group.offset - static_cast<float>(group.zero) * group.scale;
          pack(group.q.data(), bits, packed + at * bits);
        }
      }
    }
  });
}

void to_mxfp4(const TensorView& tensor, std::uint32_t* packed, std::uint8_t* scales) {
  MLXS_ASSERT(tensor.type == TensorType::kMXFP4);
  const std::int64_t blocks = tensor.columns() / kGroupElements;
  const std::int64_t block_bytes = row_bytes(tensor.type, kGroupElements);
  for_row_ranges(tensor, [&](std::int64_t first, std::int64_t last) {
    std::array<std::uint8_t, kGroupElements> q{};
    for (std::int64_t at = first * blocks; at < last * blocks; ++at) {
      const std::byte* block = tensor.row(at / blocks).data() + at % blocks * block_bytes;
      scales[at] = static_cast<std::uint8_t>(block[0]);
      for (std::size_t i = 0; i < q.size() / 2; ++i) {
        const auto pair = static_cast<std::uint8_t>(block[1 + i]);
        q[i] = pair & 0x0fu;
        q[i + q.size() / 2] = static_cast<std::uint8_t>(pair >> 4);
      }
      pack(q.data(), 4, packed + at * 4);
    }
  });
}

}  // namespace mlxs::engine
