#include "engine/ops/cpu/weight_memory.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mlxs::engine {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kPieceMin = std::size_t{32} << 20;  // Untouched pages cost nothing.
constexpr std::size_t kAlignment = 64;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::shared_ptr<std::byte> allocate_piece(std::size_t bytes) {
  void* const memory = std::aligned_alloc(kHugePage, bytes);
  if (memory == nullptr) throw std::bad_alloc();
#ifdef __linux__
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // Only advice: without huge pages it works as well.
#endif
  return {static_cast<std::byte*>(memory), [](std::byte* piece) { std::free(piece); }};
}

}  // namespace

std::shared_ptr<std::byte> allocate_weights(std::size_t bytes) {
  struct Current {
    std::weak_ptr<std::byte> piece;
    std::size_t size = 0;
    std::size_t used = 0;
  };
  static std::mutex mutex;
  static Current current;

  bytes = round_up(std::max<std::size_t>(bytes, 1), kAlignment);
  const std::lock_guard lock(mutex);
  std::shared_ptr<std::byte> piece = current.piece.lock();
  if (!piece || current.size - current.used < bytes) {
    const std::size_t size = round_up(std::max(bytes, kPieceMin), kHugePage);
    piece = allocate_piece(size);
    current = {piece, size, 0};
  }
  std::byte* const start = piece.get() + current.used;
  current.used += bytes;
  return {std::move(piece), start};
}

}  // namespace mlxs::engine
