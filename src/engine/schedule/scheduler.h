#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "engine/schedule/limits.h"
#include "engine/step.h"
#include "engine/types.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace mlxs::engine {

class BlockPool;

/// A token that the engine has to draw after a step. Choices of one prompt draw their first token
/// from the same row.
struct Draw {
  SequenceId sequence{};
  int position = 0;    ///< Of the token to draw, counted from the start of the prompt.
  int logits_row = 0;  ///< Index into `Step::logits_at`.
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
  std::vector<SequenceId> rows;  ///< rows[i] is computed by step.segments[i].
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
  Priority priority = Priority::kNormal;
  bool prompt_logits = false;  ///< Asks for a PromptRow for every position but the first.
};

/// What came of a Draw.
struct Drawn {
  TokenId token = 0;
  bool ended = false;  ///< The sequence is over; its blocks are free from now on.
};

/// Decides what the next engine step computes, and which blocks hold it.
///
///   submit ──▶ waiting ──admission──▶ running ──commit(ended), cancel, expire──▶ gone
///                 ▲                      │
///                 └──── preemption ──────┘
///
/// - A step takes decode rows first, one token each, then prefill chunks of one or several prompts
///   with the rest of the token budget, split as `share_prefill` says. While prompts wait to be
///   prefilled a quarter of the budget (at least one token) is theirs however many rows decode;
///   rows that then don't fit take turns, the least recently served first. Nothing waits for a
///   batch to fill.
/// - Admission is first come, first served, and takes blocks for all tokens of the sequence so far.
///   It leaves a free block for every row that runs already, so that what runs can grow; a sequence
///   alone is always admitted, since submit refused what can't fit.
/// - A decode row that needs a block when none is free preempts the youngest running sequence: its
///   blocks are freed, it goes back to the head of those waiting and later prefills its prompt and
///   what it has generated. Sampling is keyed by position, so its answer stays the same. The oldest
///   is never preempted by others, so it ends, and with it everything ends.
/// - So everything running is older than everything waiting, always.
///
/// Plain state machine: no clock, no I/O, no tensors; the same calls give the same plans. Engine
/// thread only. `blocks` outlives the scheduler and has no other user that allocates.
/// submit, cancel and expire are for between steps, that is not between plan and commit (or abort).
class Scheduler {
 public:
  /// `limits` are valid.
  Scheduler(const SchedulerLimits& limits, BlockPool& blocks);
  ~Scheduler();

  /// Queues behind everything waiting. kOverloaded when its choices are more than what is left of
  /// `sequences_max + waiting_max`, else the errors of `SchedulerLimits::completion_tokens`; then
  /// none is queued.
  [[nodiscard]] Result<void> submit(SequenceRequest request);
  /// Removes a sequence; false if it isn't here.
  bool cancel(SequenceId id);
  /// Removes the sequences whose deadline has passed at `now`, and returns them.
  [[nodiscard]] std::vector<SequenceId> expire(TimePoint now);

  /// The next step; empty only when nothing waits or runs. Borrowed until the next plan. Must be
  /// followed by commit or abort unless empty.
  [[nodiscard]] const StepPlan& plan();
  /// The step was computed; `drawn[i]` came of `draws[i]`. A sequence that has its
  /// `completion_tokens_max` must come as ended.
  void commit(std::span<const Drawn> drawn);
  /// The step could not be computed: removes the sequences that took part (plan().rows).
  void abort();

  [[nodiscard]] bool idle() const { return waiting_.empty() && running_.empty(); }
  [[nodiscard]] int running() const { return static_cast<int>(running_.size()); }
  [[nodiscard]] int waiting() const { return static_cast<int>(waiting_.size()); }
  [[nodiscard]] std::uint64_t preemptions() const { return preemptions_; }
  /// Tokens to prefill before all that is here decodes.
  [[nodiscard]] std::int64_t queued_prefill_tokens() const;

 private:
  struct Sequence;
  using SequencePtr = std::unique_ptr<Sequence>;

  void admit();
  void choose_decode_rows(int cap);
  void grow_decode_rows();
  void preempt_youngest();
  void add_segment(Sequence& sequence, int tokens);
  void release_blocks(Sequence& sequence);
  template <class Predicate>
  void remove_if(Predicate predicate);

  const SchedulerLimits limits_;
  BlockPool& blocks_;
  std::deque<SequencePtr> waiting_;   // oldest first, all younger than those running
  std::vector<SequencePtr> running_;  // oldest first
  StepPlan plan_;
  std::vector<Sequence*> drawing_;  // the sequences of plan_.draws, between plan and commit
  bool in_step_ = false;
  std::uint64_t arrivals_ = 0;
  std::uint64_t plans_ = 0;
  std::uint64_t preemptions_ = 0;
};

}  // namespace mlxs::engine
