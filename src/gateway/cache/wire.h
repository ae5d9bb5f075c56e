#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Numbers and texts one after the other, little endian, texts with their length before them.
class BinaryWriter {
 public:
  explicit BinaryWriter(std::string& out) : out_(out) {}

  void number(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      out_.push_back(static_cast<char>((value >> shift) & 0xFFU));
  }
  void text(std::string_view value) {
    number(value.size());
    out_ += value;
  }

 private:
  std::string& out_;
};

/// Reads what a BinaryWriter wrote. Past the end everything is zero and empty and `ok` false, so
/// that a reader asks once, when it is done.
class BinaryReader {
 public:
  explicit BinaryReader(std::string_view bytes) : rest_(bytes) {}

  [[nodiscard]] std::uint64_t number() {
    const std::string_view bytes = take(8);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    return value;
  }
  [[nodiscard]] std::string_view text() {
    const std::uint64_t size = number();
    if (size > rest_.size()) ok_ = false;
    return take(ok_ ? static_cast<std::size_t>(size) : 0);
  }
  [[nodiscard]] std::size_t left() const { return rest_.size(); }
  /// Whether everything asked for was there.
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::string_view take(std::size_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace mlxs::gateway
