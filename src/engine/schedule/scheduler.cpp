#include "engine/schedule/scheduler.h"

#include "base/assert.h"
#include "engine/kv/block_pool.h"
#include "engine/schedule/prefill_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlxs::engine {

// Logits of prompts in one step; a row of them is as wide as the vocabulary.
constexpr int kPromptRowsMax = 128;

struct Scheduler::Sequence {
  SequenceId id{};
  std::uint64_t arrival = 0;
  std::vector<TokenId> tokens;  // prompt and what was generated
  int prompt_tokens = 0;
  std::size_t tokens_max = 0;
  Deadline deadline;
  int computed = 0;  // positions whose keys and values are in `blocks`
  int planned = 0;   // tokens of it in the step under way
  std::vector<BlockId> blocks;
  int prompt_logits_from = 0;  // logits of the prompt's positions before it are not wanted (again)
  bool decodes_now = false;
  std::uint64_t served_in = 0;  // the plan that had it last, or in which it was admitted
  bool ended = false;

  [[nodiscard]] int remaining() const { return static_cast<int>(tokens.size()) - computed; }
  // A prompt's last single token costs as much as a decode row and is served like one.
  [[nodiscard]] bool decodes() const { return remaining() == 1; }
};

Scheduler::Scheduler(const SchedulerLimits& limits, BlockPool& blocks)
    : limits_{limits}, blocks_{blocks} {
  MLXS_ASSERT(limits.validate());
  MLXS_ASSERT(limits.blocks_total == blocks.total());
}

Scheduler::~Scheduler() = default;

Result<void> Scheduler::submit(SequenceRequest request) {
  MLXS_ASSERT(!in_step_);
  MLXS_ASSERT(!request.choices.empty() && !request.prompt.empty());
  MLXS_ASSERT(request.completion_tokens_max >= 1);
  const int choices = static_cast<int>(request.choices.size());
  if (running() + waiting() + choices > limits_.sequences_max + limits_.waiting_max)
    return fail(ErrorCode::kOverloaded,
                fmt::format("{} sequences are running and {} waiting, of {} that may.",
                            running(),
                            waiting(),
                            limits_.sequences_max + limits_.waiting_max));
  const auto completion =
      limits_.completion_tokens(request.prompt.size(), request.completion_tokens_max);
  if (!completion) return completion.error();

  for (const SequenceId id : request.choices) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = id;
    sequence->arrival = ++arrivals_;
    sequence->prompt_tokens = static_cast<int>(request.prompt.size());
    sequence->tokens_max = request.prompt.size() + static_cast<std::size_t>(*completion);
    sequence->tokens = request.prompt;
    sequence->deadline = request.deadline;
    sequence->prompt_logits_from = request.prompt_logits ? 0 : sequence->prompt_tokens;
    waiting_.push_back(std::move(sequence));
  }
  return {};
}

template <class Predicate>
void Scheduler::remove_if(Predicate predicate) {
  const auto removed = [&](const SequencePtr& sequence) {
    if (!predicate(*sequence)) return false;
    release_blocks(*sequence);
    return true;
  };
  std::erase_if(running_, removed);
  std::erase_if(waiting_, removed);
}

bool Scheduler::cancel(SequenceId id) {
  MLXS_ASSERT(!in_step_);
  const auto before = running() + waiting();
  remove_if([&](const Sequence& sequence) { return sequence.id == id; });
  return running() + waiting() < before;
}

std::vector<SequenceId> Scheduler::expire(TimePoint now) {
  MLXS_ASSERT(!in_step_);
  std::vector<SequenceId> expired;
  remove_if([&](const Sequence& sequence) {
    if (!sequence.deadline.passed(now)) return false;
    expired.push_back(sequence.id);
    return true;
  });
  return expired;
}

const StepPlan& Scheduler::plan() {
  MLXS_ASSERT(!in_step_);
  plan_.step.tokens.clear();
  plan_.step.segments.clear();
  plan_.step.logits_at.clear();
  plan_.rows.clear();
  plan_.draws.clear();
  plan_.prompt_rows.clear();
  drawing_.clear();

  ++plans_;
  admit();
  std::int64_t prefill_pending = 0;
  for (const SequencePtr& sequence : running_)
    if (!sequence->decodes()) prefill_pending += sequence->remaining();
  const std::int64_t prefill_reserve = std::max(1, limits_.step_tokens_max / 4);
  choose_decode_rows(limits_.step_tokens_max -
                     static_cast<int>(std::min(prefill_pending, prefill_reserve)));
  grow_decode_rows();

  for (const SequencePtr& sequence : running_)
    if (sequence->decodes_now) add_segment(*sequence, 1);
  std::vector<Sequence*> prompts;
  std::vector<int> remaining;
  int prompt_rows_left = kPromptRowsMax;
  for (const SequencePtr& sequence : running_) {
    if (sequence->decodes()) continue;
    int tokens = sequence->remaining();
    if (sequence->prompt_logits_from < sequence->prompt_tokens - 1) {
      tokens = std::min(tokens, prompt_rows_left);
      prompt_rows_left -= tokens;
      if (tokens == 0) continue;
    }
    prompts.push_back(sequence.get());
    remaining.push_back(tokens);
  }
  const int budget = limits_.step_tokens_max - static_cast<int>(plan_.step.tokens.size());
  const std::vector<int> shares = share_prefill(remaining, budget);
  plan_.prefill_tokens = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (shares[i] == 0) continue;
    add_segment(*prompts[i], shares[i]);
    plan_.prefill_tokens += shares[i];
  }

  in_step_ = !plan_.empty();
  MLXS_ASSERT(in_step_ || idle());
  return plan_;
}

void Scheduler::admit() {
  while (!waiting_.empty() && running() < limits_.sequences_max) {
    Sequence& next = *waiting_.front();
    const int needed = limits_.blocks_for(static_cast<int>(next.tokens.size()));
    // A block for each running row, so that what is admitted now preempts nobody in this step.
    if (blocks_.free() < needed + running()) return;
    for (int k = 0; k < needed; ++k) next.blocks.push_back(blocks_.allocate().value());
    next.served_in = plans_;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Scheduler::choose_decode_rows(int cap) {
  std::vector<Sequence*> rows;
  for (const SequencePtr& sequence : running_) {
    sequence->decodes_now = false;
    if (sequence->decodes()) rows.push_back(sequence.get());
  }
  if (static_cast<int>(rows.size()) > cap) {
    // Least recently served first: rows that keep arriving don't hold up those that wait.
    std::ranges::sort(
        rows, {}, [](const Sequence* row) { return std::pair{row->served_in, row->arrival}; });
    rows.resize(static_cast<std::size_t>(cap));
  }
  for (Sequence* row : rows) row->decodes_now = true;
}

void Scheduler::grow_decode_rows() {
  // Oldest first: who is preempted is younger and has not grown yet.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& row = *running_[i];
    if (!row.decodes_now ||
        limits_.blocks_for(row.computed + 1) <= static_cast<int>(row.blocks.size()))
      continue;
    while (blocks_.free() == 0 && i + 1 < running_.size()) preempt_youngest();
    if (const auto block = blocks_.allocate()) {
      row.blocks.push_back(*block);
    } else {
      preempt_youngest();  // it is the youngest itself
    }
  }
}

void Scheduler::preempt_youngest() {
  SequencePtr sequence = std::move(running_.back());
  running_.pop_back();
  release_blocks(*sequence);
  sequence->computed = 0;
  sequence->decodes_now = false;
  waiting_.push_front(std::move(sequence));
  ++preemptions_;
}

void Scheduler::add_segment(Sequence& sequence, int tokens) {
  Step& step = plan_.step;
  const int from = sequence.computed;
  const int kv_len = from + tokens;
  const int blocks = limits_.blocks_for(kv_len);
  MLXS_ASSERT(blocks <= static_cast<int>(sequence.blocks.size()));
  step.segments.push_back({.q_start = static_cast<int>(step.tokens.size()),
                           .q_len = tokens,
                           .kv_len = kv_len,
                           .blocks = {sequence.blocks.begin(), sequence.blocks.begin() + blocks}});
  step.tokens.insert(
      step.tokens.end(), sequence.tokens.begin() + from, sequence.tokens.begin() + kv_len);
  plan_.rows.push_back(sequence.id);
  sequence.planned = tokens;
  sequence.served_in = plans_;
  const int wanted_until = std::min(kv_len, sequence.prompt_tokens - 1);
  for (int at = std::max(from, sequence.prompt_logits_from); at < wanted_until; ++at) {
    plan_.prompt_rows.push_back({.sequence = sequence.id,
                                 .position = at + 1,
                                 .logits_row = static_cast<int>(step.logits_at.size())});
    step.logits_at.push_back(step.segments.back().q_start + at - from);
  }
  if (kv_len < static_cast<int>(sequence.tokens.size())) return;  // not the final chunk
  plan_.draws.push_back({.sequence = sequence.id,
                         .position = kv_len,
                         .logits_row = static_cast<int>(step.logits_at.size())});
  step.logits_at.push_back(static_cast<int>(step.tokens.size()) - 1);
  drawing_.push_back(&sequence);
}

void Scheduler::commit(std::span<const Drawn> drawn) {
  MLXS_ASSERT(in_step_ && drawn.size() == drawing_.size());
  in_step_ = false;
  for (const SequencePtr& sequence : running_) {
    sequence->computed += std::exchange(sequence->planned, 0);
    sequence->prompt_logits_from = std::max(sequence->prompt_logits_from, sequence->computed);
  }
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    Sequence& sequence = *drawing_[i];
    sequence.ended = drawn[i].ended;
    if (sequence.ended) continue;
    sequence.tokens.push_back(drawn[i].token);
    MLXS_ASSERT(sequence.tokens.size() < sequence.tokens_max);
  }
  remove_if([](const Sequence& sequence) { return sequence.ended; });
}

void Scheduler::abort() {
  MLXS_ASSERT(in_step_);
  in_step_ = false;
  remove_if([](const Sequence& sequence) { return sequence.planned > 0; });
}

std::int64_t Scheduler::queued_prefill_tokens() const {
  std::int64_t tokens = 0;
  for (const SequencePtr& sequence : waiting_) tokens += sequence->remaining();
  for (const SequencePtr& sequence : running_)
    if (!sequence->decodes()) tokens += sequence->remaining();
  return tokens;
}

void Scheduler::release_blocks(Sequence& sequence) {
  for (const BlockId block : sequence.blocks) blocks_.release(block);
  sequence.blocks.clear();
}

}  // namespace mlxs::engine
