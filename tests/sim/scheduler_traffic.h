#pragma once

#include "base/deadline.h"
#include "engine/types.h"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

// What the scheduler's simulation is made of: a made-up model, the memory it reads and writes, the
// clients, and what happened to them.

namespace mlxs::engine {

inline void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error{what};
}

inline std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

inline std::uint64_t extend(std::uint64_t hash, TokenId token) {
  return mix(hash ^ static_cast<std::uint64_t>(token));
}

// Few tokens, so that answers to one prompt often go on alike.
inline TokenId next_token(std::uint64_t hash_of_history, int choice) {
  return static_cast<TokenId>(mix(hash_of_history + static_cast<std::uint64_t>(choice)) % 40);
}
inline bool ends_answer(TokenId token) { return token < 2; }

struct Slot {
  int position = -1;
  std::uint64_t hash = 0;  // of all tokens up to and with this position
};

/// A sequence as the outside sees it.
struct Client {
  std::vector<TokenId> tokens;        // prompt and answer
  std::vector<std::uint64_t> hashes;  // hashes[n]: of the first n tokens
  std::size_t prompt_tokens = 0;
  std::size_t tokens_max = 0;
  int choice = 0;
  int computed = 0;          // as far as steps have shown
  int passed_over = 0;       // steps in a row in which it could decode and didn't
  int prompt_rows_next = 0;  // 0: wants none
  Deadline deadline;

  void append(TokenId token) {
    tokens.push_back(token);
    hashes.push_back(extend(hashes.back(), token));
  }
};

struct Tally {
  std::uint64_t steps = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t expired = 0;
  std::uint64_t refused = 0;
  std::uint64_t aborted = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t mixed_steps = 0;      // decode rows and prefill chunks together
  std::uint64_t shared_prefills = 0;  // several prompts in one step
  std::uint64_t shared_blocks = 0;    // a block in the tables of two rows
  std::uint64_t prefix_hits = 0;      // tokens
  std::uint64_t evictions = 0;
  std::uint64_t forks = 0;
  std::uint64_t cut_chunks = 0;          // by the ceiling of a step's time
  std::uint64_t unseen = 0;              // entries of windows' tables whose blocks are gone
  std::uint64_t window_prefix_hits = 0;  // tokens, in worlds with windows
  std::uint64_t windows_full = 0;        // steps after which a window's pool had no free block
};

}  // namespace mlxs::engine
