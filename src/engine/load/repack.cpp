#include "engine/load/repack.h"

#include "base/assert.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kElementsPerThreadMin = 1
                                               << 16;  // Below, a thread costs more than it saves.
constexpr std::int64_t kThreadsMax = 16;

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

/// The 32 values q of a GGUF block, unsigned; Q8_0's are shifted by 128 to become so.
void unpack_block(TensorType type, const std::byte* block, std::uint8_t* q) {
  if (type == TensorType::kQ8_0) {
    for (int i = 0; i < kQuantBlock; ++i) {
      q[i] = static_cast<std::uint8_t>(static_cast<std::uint8_t>(block[2 + i]) ^ 0x80u);
    }
    return;
  }
  const std::byte* pairs = block + (type == TensorType::kQ4_1 ? 4 : 2);
  for (int i = 0; i < kQuantBlock / 2; ++i) {
    q[i] = static_cast<std::uint8_t>(pairs[i] & std::byte{0x0f});
    q[i + kQuantBlock / 2] = static_cast<std::uint8_t>(pairs[i] >> 4);
  }
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
  MLXS_ASSERT(is_block_quantised(type));
  return type == TensorType::kQ8_0 ? 8 : 4;
}

void to_affine(const TensorView& tensor, std::uint32_t* packed, float* scales, float* biases) {
  const std::int64_t blocks = tensor.columns() / kQuantBlock;
  const std::int64_t block_bytes = row_bytes(tensor.type, kQuantBlock);
  const int bits = affine_bits(tensor.type);
  const int per_word = 32 / bits;
  for_row_ranges(tensor, [&](std::int64_t first, std::int64_t last) {
    std::uint8_t q[kQuantBlock];
    for (std::int64_t row = first; row < last; ++row) {
      const auto bytes = tensor.row(row);
      for (std::int64_t i = 0; i < blocks; ++i) {
        const std::byte* block = bytes.data() + i * block_bytes;
        const std::int64_t group = row * blocks + i;
        float offset = 0;
        const float scale = block_scale(tensor.type, block, offset);
        scales[group] = scale;
        biases[group] = offset;
        unpack_block(tensor.type, block, q);
        for (int word = 0; word < kQuantBlock / per_word; ++word) {
          std::uint32_t value = 0;
          for (int k = 0; k < per_word; ++k) {
            value |= std::uint32_t{q[word * per_word + k]} << (k * bits);
          }
          packed[group * (kQuantBlock / per_word) + word] = value;
        }
      }
    }
  });
}

}  // namespace mlxs::engine
