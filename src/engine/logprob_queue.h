#pragma once

#include "engine/types.h"

#include <cstddef>
#include <deque>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// Withholds what is known of an answer's tokens until their text is out, so that the tokens given
/// out spell exactly the text given out: a token that begins a character comes with the one that
/// completes it, and one that may belong to a stop string when that is ruled out. One thread.
class LogprobQueue {
 public:
  /// The next token; `text` is what it adds to the answer, if nothing of that is cut off.
  void push(TokenLogprob token);
  /// Text that the last token adds only now that no more tokens come.
  void extend_last(std::string_view text);
  /// Numbers for a token that was pushed without, the last one being 1 `back`. Nothing if it is out
  /// already.
  void fill(std::size_t back, float logprob, std::vector<TopLogprob> top);

  /// The tokens whose text is out once another `text_bytes` of the answer are.
  [[nodiscard]] std::vector<TokenLogprob> take(std::size_t text_bytes);
  /// All tokens that are left, when no more come.
  [[nodiscard]] std::vector<TokenLogprob> take_all();
  /// The tokens of the answer's last `text_bytes`, when a stop string cuts off the rest: the token
  /// it begins in keeps what is before it.
  [[nodiscard]] std::vector<TokenLogprob> cut_after(std::size_t text_bytes);

 private:
  std::vector<TokenLogprob> take_first(std::size_t count);

  std::deque<TokenLogprob> tokens_;
  std::size_t out_ = 0;  // bytes of text that are out, from the first token here on
};

}  // namespace mlxs::engine
