#pragma once

#include "api/events.h"
#include "engine/types.h"
#include "worker/codec.h"
#include "worker/generation.h"
#include "worker/logprobs.h"
#include "worker/prepare.h"

#include <cstddef>
#include <optional>
#include <vector>

namespace mlxs::worker {

/// Keeps the answers of a job with best_of > n until it is known which are the best: those whose
/// tokens have the highest mean logprob, as OpenAI defines it. Loop thread.
class BestOf {
 public:
  /// `job` outlives it.
  explicit BestOf(const Job& job) : job_(job), choices_(job.prompts * job.best_of) {}

  void add(const Piece& piece, std::vector<api::Delta>&& deltas);
  /// The deltas of the best, the best first, numbered as choices 0 to n - 1 of each prompt.
  [[nodiscard]] std::vector<api::Delta> best();

 private:
  struct Choice {
    std::vector<api::Delta> deltas;
    double logprobs = 0;
    std::size_t tokens = 0;
    [[nodiscard]] double mean() const {
      return tokens == 0 ? 0 : logprobs / static_cast<double>(tokens);
    }
  };

  const Job& job_;
  std::vector<Choice> choices_;
};

/// Makes the pieces of a job's choices into deltas: an echoed prompt first, logprobs where they
/// were asked for, the best of more answers than wanted only once all are complete. Counts the
/// usage: each prompt once, all choices' tokens. Loop thread.
class AnswerWriter {
 public:
  /// Both outlive it.
  AnswerWriter(const Codec& codec, const Job& job);

  [[nodiscard]] std::vector<api::Delta> write(Piece& piece);
  /// Whether every choice has had its last piece.
  [[nodiscard]] bool complete() const { return unfinished_ == 0; }
  [[nodiscard]] const api::Usage& usage() const { return usage_; }

 private:
  struct Choice {
    LogprobWriter logprobs;
    bool begun = false;
  };
  [[nodiscard]] std::vector<api::Delta> deltas_of(Piece& piece);
  [[nodiscard]] api::Delta echo_of(std::size_t choice);

  const Codec& codec_;
  const Job& job_;
  std::vector<Choice> choices_;
  std::vector<std::vector<engine::TokenLogprob>> prompt_logprobs_;  // by prompt
  std::optional<BestOf> best_of_;
  std::size_t unfinished_;
  api::Usage usage_;
};

}  // namespace mlxs::worker
