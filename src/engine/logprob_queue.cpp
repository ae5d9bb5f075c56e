#include "engine/logprob_queue.h"

#include "base/assert.h"

#include <iterator>
#include <utility>

namespace mlxs::engine {

void LogprobQueue::push(TokenLogprob token) { tokens_.push_back(std::move(token)); }

void LogprobQueue::extend_last(std::string_view text) {
  // Nothing is left to extend when bytes after a complete character of the same token stay over.
  if (!tokens_.empty()) tokens_.back().text += text;
}

void LogprobQueue::fill(std::size_t back, float logprob, std::vector<TopLogprob> top) {
  MLXS_ASSERT(back >= 1);
  if (back > tokens_.size()) return;
  TokenLogprob& token = tokens_[tokens_.size() - back];
  token.logprob = logprob;
  token.top = std::move(top);
}

std::vector<TokenLogprob> LogprobQueue::take(std::size_t text_bytes) {
  out_ += text_bytes;
  std::size_t count = 0;
  std::size_t end = 0;
  std::size_t taken = 0;
  for (std::size_t k = 0; k < tokens_.size(); ++k) {
    end += tokens_[k].text.size();
    if (end > out_) break;
    if (tokens_[k].text.empty()) continue;  // comes with the one that completes its character
    count = k + 1;
    taken = end;
  }
  out_ -= taken;
  return take_first(count);
}

std::vector<TokenLogprob> LogprobQueue::take_all() { return take_first(tokens_.size()); }

std::vector<TokenLogprob> LogprobQueue::cut_after(std::size_t text_bytes) {
  out_ += text_bytes;
  std::size_t count = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < tokens_.size() && begin < out_; ++k) {
    std::string& text = tokens_[k].text;
    if (text.empty()) continue;
    count = k + 1;
    const std::size_t size = text.size();
    if (begin + size > out_) {
      text.resize(out_ - begin);
      tokens_[k].cut = true;
    }
    begin += size;
  }
  return take_first(count);
}

std::vector<TokenLogprob> LogprobQueue::take_first(std::size_t count) {
  const auto end = tokens_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<TokenLogprob> taken{std::make_move_iterator(tokens_.begin()),
                                  std::make_move_iterator(end)};
  tokens_.erase(tokens_.begin(), end);
  return taken;
}

}  // namespace mlxs::engine
