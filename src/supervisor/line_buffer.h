#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::supervisor {

/// Cuts a stream of bytes into lines. What a line has beyond `line_bytes_max` is dropped.
class LineBuffer {
 public:
  explicit LineBuffer(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}

  /// Adds bytes, and calls `line(std::string_view)` for each line that they complete, without its
  /// line break. The view lives until the call returns.
  template <class F>
  void feed(std::string_view bytes, const F& line) {
    while (true) {
      const std::size_t end = bytes.find('\n');
      append(bytes.substr(0, end));
      if (end == std::string_view::npos) return;
      line(std::string_view{line_});
      line_.clear();
      bytes.remove_prefix(end + 1);
    }
  }
  /// The last line if it has no line break, and forgets it.
  [[nodiscard]] std::string take_rest() { return std::exchange(line_, {}); }

 private:
  void append(std::string_view bytes) {
    line_.append(bytes.substr(0, line_bytes_max_ - std::min(line_.size(), line_bytes_max_)));
  }

  std::size_t line_bytes_max_;
  std::string line_;
};

}  // namespace mlxs::supervisor
