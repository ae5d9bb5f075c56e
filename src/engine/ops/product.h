#pragma once

#include "engine/ops/cpu/packed_matrix.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace mlxs::engine {

/// Tokens side by side in memory.
struct TokenRows {
  const float* data = nullptr;
  int tokens = 0;
  std::int64_t stride = 0;  ///< In elements.
};

/// out[tokens, weight.rows()] = x · weightᵀ, by `product_kernels` and `parallel_for`. One caller at
/// a time; allocates only when it meets more tokens or columns than ever before on its thread.
void multiply(const TokenRows& x, const PackedMatrix& weight, float* out);

/// Memory aligned to cache lines that grows and stays; what it held is lost when it grows.
class LineMemory {
 public:
  std::byte* reserve(std::size_t bytes) {
    if (bytes > size_) {
      memory_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kLine})));
      size_ = bytes;
    }
    return memory_.get();
  }
  static constexpr std::size_t kLine = 64;
  static std::size_t round_up(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

 private:
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t{kLine}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_ = 0;
};

/// Tokens on their way into products: whoever computes a token writes `row(t)` and then calls
/// `finish(t)`, any token on any thread.
class ProductInput {
 public:
  /// As weights ask for that are to come (`PanelView::eight_bits`); before `start`.
  void use_eight_bits(bool eight_bits) { eight_bits_ = eight_bits; }
  /// Room for `tokens` of `columns`. `encoded`: a weight over whole numbers is to come.
  void start(int tokens, int columns, bool encoded);

  [[nodiscard]] int tokens() const { return tokens_; }
  [[nodiscard]] int columns() const { return columns_; }
  [[nodiscard]] float* row(int token) const { return rows_ + std::int64_t{token} * columns_; }
  void finish(int token) const;

 private:
  friend void multiply(const ProductInput& x,
                       const std::vector<std::shared_ptr<const PackedMatrix>>& weights,
                       float* out);
  LineMemory memory_;
  int tokens_ = 0;
  int columns_ = 0;
  bool encoded_ = false;
  bool eight_bits_ = false;
  float* rows_ = nullptr;
  Codes codes_;
};

/// out[tokens, all rows] = x · weightsᵀ, the weights' rows below each other, by `parallel_for`.
void multiply(const ProductInput& x,
              const std::vector<std::shared_ptr<const PackedMatrix>>& weights,
              float* out);

}  // namespace mlxs::engine
