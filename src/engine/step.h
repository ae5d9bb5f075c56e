#pragma once

#include "engine/types.h"

#include <cstddef>
#include <span>
#include <vector>

namespace mlxs::engine {

/// One row's share of a step: `q_len` new tokens of a sequence, a prefill chunk or one decode
/// token. They stand at packed indices [q_start, q_start + q_len) and at positions
/// [kv_len - q_len, kv_len) of the sequence.
struct Segment {
  int q_start = 0;
  int q_len = 0;
  int kv_len = 0;               ///< Positions the row holds once this step is done.
  std::vector<BlockId> blocks;  ///< Its block table; covers kv_len positions.
  /// Its tables for layers with ModelInfo::windows[k], of the same length. Entries before the
  /// first block that the row still has repeat that one. Empty: `blocks` serve them, too.
  std::vector<std::vector<BlockId>> window_blocks = {};
};

/// One forward pass over packed tokens: prefill chunks and decode rows mixed, never padded.
/// Invariants: segments are contiguous from 0 and cover `tokens`; every q_len >= 1; no block of one
/// segment that this step writes appears in another segment.
struct Step {
  std::vector<TokenId> tokens;    ///< [T]
  std::vector<Segment> segments;  ///< in packed order
  /// Packed indices whose logits are wanted, ascending; typically the last token of each decode row
  /// and of each prompt's final chunk.
  std::vector<int> logits_at;
};

/// Logits of one step: row i belongs to Step::logits_at[i]. Borrowed until the next run.
struct Logits {
  std::span<const float> values;  ///< [rows × vocab_size], row-major
  int vocab_size = 0;
  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    return values.subspan(i * static_cast<std::size_t>(vocab_size),
                          static_cast<std::size_t>(vocab_size));
  }
};

}  // namespace mlxs::engine
