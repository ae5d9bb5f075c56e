#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "engine/schedule/kv_space.h"
#include "engine/schedule/limits.h"
#include "engine/schedule/sequence.h"
#include "engine/schedule/step_cost.h"
#include "engine/step.h"
#include "engine/types.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

namespace mlxs::engine {

/// A token that the engine has to draw after a step. Choices of one prompt draw their first token
/// from the same row.
struct Draw {
  SequenceId sequence{};
  int position = 0;       ///< Of the token to draw, counted from the start of the prompt.
  int logits_row = 0;     ///< Index into `Step::logits_at`.
  int cached_tokens = 0;  ///< Of the sequence's prompt, taken from the prefix cache.
};

/// Logits that predict a token of a prompt which asked for them. Every position from 1 on comes
/// once, in ascending order, all before the sequence's first draw.
struct PromptRow {
  SequenceId sequence{};
  int position = 0;    ///< Of the prompt token that is predicted, >= 1.
  int logits_row = 0;  ///< Index into `Step::logits_at`.
};

/// One step and who takes part in it.
struct StepPlan {
  Step step;
  std::vector<SequenceId> rows;  ///< rows[i], or its first choice, is computed by step.segments[i].
  std::vector<Draw> draws;
  std::vector<PromptRow> prompt_rows;
  int prefill_tokens = 0;  ///< Of step.tokens; the others are decode rows, one token each.
  [[nodiscard]] bool empty() const { return rows.empty(); }
};

/// Choices of one prompt, prefilled once; each generates as a sequence of its own from then on.
struct SequenceRequest {
  std::vector<SequenceId> choices;  ///< At least one; new.
  std::vector<TokenId> prompt;      ///< Not empty.
  int completion_tokens_max = 1;    ///< >= 1, of each choice.
  Deadline deadline = {};
  Deadline row_deadline = {};  ///< For `overdue`.
  Priority priority = Priority::kNormal;
  bool prompt_logits = false;  ///< Asks for a PromptRow for every position but the first.
};

/// What came of a Draw.
struct Drawn {
  TokenId token = 0;
  bool ended = false;  ///< The sequence is over; its blocks are free from now on.
};

/// Counts since the start.
struct SchedulerCounts {
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_queries = 0;  ///< Prompt tokens looked up in the prefix cache.
  std::uint64_t prefix_hits = 0;     ///< Those that were found.
};

/// Decides what the next engine step computes, and which blocks hold it.
///
///   submit ──▶ waiting ──admission──▶ running ──commit(ended), cancel, expire──▶ gone
///                 ▲                      │
///                 └──── preemption ──────┘
///
/// - Rank: the higher class first, within a class who came first. A class is a head start of
///   `class_steps` plans, so a sequence is overtaken by those only that come soon after it, and
///   nothing starves. Ranks never change.
/// - A step takes decode rows first, one token each, then prefill chunks of one or several prompts
///   with the rest of the token budget, split as `share_prefill` says. While prompts wait to be
///   prefilled a quarter of the budget (at least one token) is theirs however many rows decode;
///   rows that then don't fit take turns, the least recently served first. Nothing waits for a
///   batch to fill.
/// - Ceilings: chunks are cut so that a step with decode rows takes `stall_max_s` at most, as far
/// as
///   `StepCost` can tell; but prompts always get at least a quarter of the step's time (and one
///   token), so that such a step takes no longer than the larger of `stall_max_s` and 4/3 of what
///   its decode rows take. Prefill therefore never gets less than a quarter of the time, and the
///   prompt of the first rank never less than half of that: these are the bounds of a first token.
/// - Full blocks are found again by their tokens (`PrefixTree`), also while the sequence that made
///   them runs, and after it has ended, was cancelled or preempted. Of prompts that begin alike one
///   computes, and the others wait for the blocks it makes.
/// - A prompt's choices are one row until their first token is drawn, all from the same logits.
///   Then they share the prompt's full blocks; the tokens behind these each computes for itself.
/// - Admission is by rank, and takes blocks for all tokens of the sequence so far. It leaves a
/// block
///   for every row that runs already, so that what runs can grow; a sequence alone is always
///   admitted, since submit refused what can't fit.
/// - Of layers with a window a sequence holds only what its next tokens see. These blocks have
///   pools of their own that never run out first, so nothing here depends on them (`KvSpace`).
/// - A decode row that needs a block takes a free one, else evicts the prefix block unused for the
///   longest time, else preempts the running sequence of the last rank: that one gives back its
///   blocks, waits at its rank and later prefills what is no longer found of its prompt and what
///   it has generated. Sampling is keyed by position, so its answer stays the same. The first rank
///   is never preempted by others, so it ends, and with it everything ends.
///
/// Plain state machine: no clock, no I/O, no tensors; the same calls give the same plans. Engine
/// thread only. `blocks` outlives the scheduler and has no other user that allocates.
/// submit, cancel, expire and overdue are for between steps, that is not between plan and commit
/// (or abort).
class Scheduler {
 public:
  /// `limits` are valid.
  Scheduler(const SchedulerLimits& limits, BlockPool& blocks);
  ~Scheduler();

  /// kOverloaded when the request's choices are more than what is left of `sequences_max +
  /// waiting_max`, else the errors of `SchedulerLimits::completion_tokens`; then none is queued.
  [[nodiscard]] Result<void> submit(SequenceRequest request);
  /// Removes a sequence; false if it isn't here.
  bool cancel(SequenceId id);
  /// Removes the sequences whose deadline has passed at `now`, and returns them; also those whose
  /// prompt takes longer than they have, when no token takes less than `token_seconds_least`.
  [[nodiscard]] std::vector<SequenceId> expire(TimePoint now, double token_seconds_least = 0);

  /// Removes the sequences that wait for a row, have drawn nothing yet and whose `row_deadline` has
  /// passed at `now`, and returns them.
  [[nodiscard]] std::vector<SequenceId> overdue(TimePoint now);

  /// The next step; empty only when nothing waits or runs. Borrowed until the next plan. Must be
  /// followed by commit or abort unless empty.
  [[nodiscard]] const StepPlan& plan(const StepCost& cost = {});
  /// The step was computed; `drawn[i]` came of `draws[i]`. A sequence that has its
  /// `completion_tokens_max` must come as ended.
  void commit(std::span<const Drawn> drawn);
  /// The step could not be computed: removes the sequences that took part, and returns them.
  [[nodiscard]] std::vector<SequenceId> abort();

  [[nodiscard]] bool idle() const { return here_ == 0; }
  [[nodiscard]] int running() const { return static_cast<int>(running_.size()); }  ///< Rows.
  [[nodiscard]] int waiting() const { return here_ - running(); }
  [[nodiscard]] const SchedulerCounts& counts() const { return counts_; }
  /// Tokens to prefill before all that is here decodes.
  [[nodiscard]] std::int64_t queued_prefill_tokens() const;
  [[nodiscard]] const PrefixTree& prefixes() const { return kv_.tree(); }
  [[nodiscard]] const std::vector<WindowBlocks>& windows() const { return kv_.windows(); }
  /// Asserts what must hold between steps: that every block's holders are the sequences that have
  /// it, plus the tree; that none is lost; that ranks are in order. For simulations: it looks at
  /// every block of every sequence.
  void verify() const;

 private:
  using SequencePtr = std::unique_ptr<Sequence>;

  void admit();
  void look_up(Sequence& sequence);
  void choose_decode_rows();
  void grow_decode_rows();
  void preempt_last();
  [[nodiscard]] std::vector<Sequence*> prompts();
  void add_decode_rows();
  void add_chunks(const StepCost& cost);
  [[nodiscard]] double chunk_seconds_max(const StepCost& cost) const;
  void add_segment(Sequence& sequence, int tokens);
  void wait(SequencePtr sequence);
  void run(SequencePtr sequence);
  [[nodiscard]] std::vector<SequencePtr> take_choices(Sequence& sequence,
                                                      std::span<const Drawn> drawn);
  void start_fork(SequencePtr fork, const KvHold& prompt);
  template <class Predicate>
  std::vector<SequenceId> remove_if(Predicate predicate);

  const SchedulerLimits limits_;
  KvSpace kv_;
  std::deque<SequencePtr> waiting_;   // by rank
  std::vector<SequencePtr> running_;  // by rank
  int here_ = 0;                      // choices of both
  StepPlan plan_;
  std::vector<Sequence*> drawing_;  // the sequences with draws, between plan and commit
  bool in_step_ = false;
  std::uint64_t arrivals_ = 0;
  std::uint64_t plans_ = 0;
  SchedulerCounts counts_;
};

}  // namespace mlxs::engine
