#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// Finds the end of an answer that comes in pieces: the answer ends right before the stop string
/// that is complete first (of several complete at the same byte: the longest), however the text was
/// cut into pieces. Withholds only what may be the beginning of a stop string. When stop strings
/// and pieces are valid UTF-8, so is what comes out. Constant time a byte and stop string.
class StopMatcher {
 public:
  /// Empty strings match nothing.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Text that certainly belongs to the answer. Not to be called once `stopped`.
  [[nodiscard]] std::string push(std::string_view piece);
  /// What is withheld, when no more text comes. Not to be called once `stopped`.
  [[nodiscard]] std::string finish();
  /// Whether a stop string was complete; what follows it in its piece is dropped.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  // Knuth, Morris and Pratt: `borders[n]` is the length of the longest proper prefix of `text` that
  // ends its first n bytes, and `matched` bytes of `text` end what has been seen.
  struct Stop {
    std::string text;
    std::vector<std::size_t> borders;
    std::size_t matched = 0;
  };

  std::vector<Stop> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace mlxs::engine
