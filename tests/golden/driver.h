#pragma once

#include "engine/kv/window_blocks.h"
#include "engine/runner.h"
#include "engine/step.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mlxs::engine::golden {

/// A row that a test drives by hand: known tokens (the prompt, then what was added), how many of
/// them the pool holds already, and the blocks it owns.
struct Row {
  std::vector<TokenId> tokens;
  int done = 0;
  std::vector<BlockId> blocks;
  /// By window: all it has had, of which those before `seen_from` are another row's by now.
  std::vector<std::vector<BlockId>> window_blocks = {};
  std::vector<int> seen_from = {};
};

/// Runs steps without a scheduler: block tables are dealt out from 0, backwards within a row, so
/// that no test passes just because blocks happen to lie in order.
class Driver {
 public:
  explicit Driver(Runner& runner) : runner_(runner) {
    for (const KvWindow& window : runner.info().windows)
      windows_.emplace_back(window, runner.info().block_tokens);
  }

  Row make_row(std::vector<TokenId> prompt, int tokens_max) {
    Row row{.tokens = std::move(prompt), .done = 0, .blocks = {}};
    row.window_blocks.resize(windows_.size());
    row.seen_from.resize(windows_.size());
    const int size = runner_.info().block_tokens;
    for (int i = 0; i * size < tokens_max; ++i) row.blocks.push_back(BlockId{next_block_++});
    std::reverse(row.blocks.begin(), row.blocks.end());
    if (next_block_ > runner_.info().blocks_total) throw std::runtime_error("no blocks left");
    return row;
  }

  /// Called with a row whose last known token was just computed, and the logits for the next.
  using OnLogits = std::function<void(Row&, std::span<const float>)>;

  /// One step: of every row that has unseen tokens, at most `chunk` of them.
  void step(const std::vector<Row*>& rows, int chunk, const OnLogits& on_logits) {
    Step step;
    std::vector<Row*> finished;
    for (Row* row : rows) {
      const int left = static_cast<int>(row->tokens.size()) - row->done;
      const int take = std::min(left, chunk);
      if (take == 0) continue;
      const int start = static_cast<int>(step.tokens.size());
      for (int i = 0; i < take; ++i) {
        step.tokens.push_back(row->tokens[static_cast<std::size_t>(row->done + i)]);
      }
      move_windows(*row, take);
      row->done += take;
      step.segments.push_back({.q_start = start,
                               .q_len = take,
                               .kv_len = row->done,
                               .blocks = row->blocks,
                               .window_blocks = row->window_blocks});
      if (take < left) continue;
      step.logits_at.push_back(start + take - 1);
      finished.push_back(row);
    }
    if (step.tokens.empty()) return;
    const auto logits = runner_.run(step);
    if (!logits) throw std::runtime_error(logits.error().message);
    for (std::size_t i = 0; i < finished.size(); ++i) on_logits(*finished[i], logits->row(i));
  }

  /// Of blocks that windows made free for others.
  [[nodiscard]] int reused() const { return reused_; }

 private:
  /// Gives back what the next `take` tokens don't see, and takes what they are written to.
  void move_windows(Row& row, int take) {
    const int size = runner_.info().block_tokens;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      std::vector<BlockId>& table = row.window_blocks[w];
      const int seen_from = windows_[w].first_seen(row.done / size);
      for (int k = row.seen_from[w]; k < seen_from; ++k)
        windows_[w].release(table[static_cast<std::size_t>(k)]);
      row.seen_from[w] = seen_from;
      while (std::ssize(table) * size < row.done + take) {
        table.push_back(windows_[w].allocate());
        reused_ += !had_.insert({w, table.back()}).second;
      }
      std::fill_n(table.begin(), seen_from, table[static_cast<std::size_t>(seen_from)]);
    }
  }

  Runner& runner_;
  int next_block_ = 0;
  std::vector<WindowBlocks> windows_;
  std::set<std::pair<std::size_t, BlockId>> had_;
  int reused_ = 0;
};

/// The lowest id among the best logits.
inline TokenId best_token(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace mlxs::engine::golden
