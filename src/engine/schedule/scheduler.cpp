#include "engine/schedule/scheduler.h"

#include "base/assert.h"
#include "engine/schedule/prefill_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <set>
#include <utility>

namespace mlxs::engine {
namespace {

// Logits of prompts in one step; a row of them is as wide as the vocabulary.
constexpr int kPromptRowsMax = 128;

auto rank_of(const std::unique_ptr<Sequence>& sequence) { return sequence->rank; }

/// The table of a row's first `blocks` blocks, of which it has only those that are seen.
std::vector<BlockId> whole_table(const WindowHold& window, int blocks) {
  std::vector<BlockId> table(static_cast<std::size_t>(blocks), window.blocks.front());
  const auto end = window.blocks.begin() + (blocks - window.first);
  std::copy(window.blocks.begin(), end, table.begin() + window.first);
  return table;
}

/// The block that a prompt computes next, whole, and the way to it: what two prompts can share.
struct NextBlock {
  NodeId parent = NodeId::kRoot;
  std::span<const TokenId> tokens;
  bool operator<(const NextBlock& other) const {
    if (parent != other.parent) return parent < other.parent;
    return std::ranges::lexicographical_compare(tokens, other.tokens);
  }
};

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits, BlockPool& blocks)
    : limits_{limits}, kv_{blocks, limits.block_tokens, limits.prefix_cache, limits.windows} {
  MLXS_ASSERT(limits.validate());
  MLXS_ASSERT(limits.blocks_total == blocks.total());
}

Scheduler::~Scheduler() = default;

Result<void> Scheduler::submit(SequenceRequest request) {
  MLXS_ASSERT(!in_step_);
  MLXS_ASSERT(!request.choices.empty() && !request.prompt.empty());
  MLXS_ASSERT(request.completion_tokens_max >= 1);
  const int choices = static_cast<int>(request.choices.size());
  if (here_ + choices > limits_.sequences_max + limits_.waiting_max)
    return fail(ErrorCode::kOverloaded,
                fmt::format("{} sequences are running and {} waiting, of {} that may.",
                            running(),
                            waiting(),
                            limits_.sequences_max + limits_.waiting_max));
  const auto completion =
      limits_.completion_tokens(request.prompt.size(), request.completion_tokens_max);
  if (!completion) return completion.error();

  auto sequence = std::make_unique<Sequence>();
  const auto below_highest =
      static_cast<std::int64_t>(Priority::kHigh) - static_cast<std::int64_t>(request.priority);
  sequence->rank = {.due = static_cast<std::int64_t>(plans_) + below_highest * limits_.class_steps,
                    .arrival = arrivals_};
  arrivals_ += static_cast<std::uint64_t>(choices);
  here_ += choices;
  sequence->choices = std::move(request.choices);
  sequence->tokens = std::move(request.prompt);
  sequence->prompt_tokens = sequence->size();
  sequence->tokens_max = sequence->size() + *completion;
  sequence->deadline = request.deadline;
  sequence->row_deadline = request.row_deadline;
  sequence->prompt_logits_from = request.prompt_logits ? 0 : sequence->prompt_tokens;
  sequence->counted = request.prompt_logits;
  wait(std::move(sequence));
  return {};
}

template <class Predicate>
std::vector<SequenceId> Scheduler::remove_if(Predicate predicate) {
  std::vector<SequenceId> gone;
  const auto removed = [&](const SequencePtr& sequence) {
    if (!predicate(*sequence)) return false;
    kv_.release(sequence->kv);
    gone.insert(gone.end(), sequence->choices.begin(), sequence->choices.end());
    return true;
  };
  std::erase_if(running_, removed);
  std::erase_if(waiting_, removed);
  here_ -= static_cast<int>(gone.size());
  return gone;
}

bool Scheduler::cancel(SequenceId id) {
  MLXS_ASSERT(!in_step_);
  bool one_of_several = false;
  const auto gone = remove_if([&](Sequence& sequence) {
    const auto choice = std::ranges::find(sequence.choices, id);
    if (choice == sequence.choices.end()) return false;
    if (sequence.choices.size() == 1) return true;
    sequence.choices.erase(choice);
    one_of_several = true;
    return false;
  });
  here_ -= one_of_several ? 1 : 0;
  return one_of_several || !gone.empty();
}

std::vector<SequenceId> Scheduler::expire(TimePoint now, double token_seconds_least) {
  MLXS_ASSERT(!in_step_);
  const auto too_late = [&](const Sequence& sequence, int tokens) {
    const std::chrono::duration<double> least{tokens * token_seconds_least};
    return sequence.deadline.passed(now + std::chrono::duration_cast<Clock::duration>(least));
  };
  return remove_if([&](const Sequence& sequence) {
    if (!too_late(sequence, sequence.remaining())) return false;
    // Somebody has to compute what is not there yet, but for that only.
    const int known =
        kv_.known(sequence.kv, sequence.tokens, sequence.computed, sequence.match_limit());
    return too_late(sequence, sequence.size() - known);
  });
}

std::vector<SequenceId> Scheduler::overdue(TimePoint now) {
  MLXS_ASSERT(!in_step_);
  const auto waits_in_vain = [&](const SequencePtr& sequence) {
    return sequence->size() == sequence->prompt_tokens && sequence->row_deadline.passed(now);
  };
  std::vector<SequenceId> gone;
  std::erase_if(waiting_, [&](const SequencePtr& sequence) {
    if (!waits_in_vain(sequence)) return false;
    gone.insert(gone.end(), sequence->choices.begin(), sequence->choices.end());
    return true;
  });
  here_ -= static_cast<int>(gone.size());
  return gone;
}

void Scheduler::wait(SequencePtr sequence) {
  const auto at = std::ranges::lower_bound(waiting_, sequence->rank, {}, rank_of);
  waiting_.insert(at, std::move(sequence));
}

void Scheduler::run(SequencePtr sequence) {
  sequence->served_in = plans_;
  const auto at = std::ranges::lower_bound(running_, sequence->rank, {}, rank_of);
  running_.insert(at, std::move(sequence));
}

const StepPlan& Scheduler::plan(const StepCost& cost) {
  MLXS_ASSERT(!in_step_);
  plan_.step.tokens.clear();
  plan_.step.segments.clear();
  plan_.step.logits_at.clear();
  plan_.rows.clear();
  plan_.draws.clear();
  plan_.prompt_rows.clear();
  plan_.prefill_tokens = 0;
  drawing_.clear();

  ++plans_;
  admit();
  for (const SequencePtr& sequence : running_)
    if (!sequence->decodes()) look_up(*sequence);
  choose_decode_rows();
  grow_decode_rows();
  add_decode_rows();
  add_chunks(cost);

  in_step_ = !plan_.empty();
  MLXS_ASSERT(in_step_ || idle());
  return plan_;
}

void Scheduler::admit() {
  while (!waiting_.empty() && running() < limits_.sequences_max) {
    Sequence& next = *waiting_.front();
    next.computed = kv_.match(next.kv, next.tokens, 0, next.match_limit());
    const int needed = limits_.blocks_for(next.size());
    // A block for each running row, so that what is admitted now preempts nobody in this step.
    const int more = needed - static_cast<int>(next.kv.blocks.size());
    if (kv_.available() < more + running()) {
      kv_.release(next.kv);
      next.computed = 0;
      return;
    }
    MLXS_ASSERT(kv_.grow(next.kv, needed));
    if (kv_.keeps_prefixes() && !next.counted) {
      counts_.prefix_queries += static_cast<std::uint64_t>(next.prompt_tokens);
      counts_.prefix_hits += static_cast<std::uint64_t>(next.computed);
      next.cached_tokens = next.computed;
    }
    run(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Scheduler::look_up(Sequence& sequence) {
  const int had = std::exchange(
      sequence.computed,
      kv_.match(sequence.kv, sequence.tokens, sequence.computed, sequence.match_limit()));
  if (sequence.counted) return;
  counts_.prefix_hits += static_cast<std::uint64_t>(sequence.computed - had);
  sequence.cached_tokens += sequence.computed - had;
}

void Scheduler::choose_decode_rows() {
  std::int64_t prefill_pending = 0;
  std::vector<Sequence*> rows;
  for (const SequencePtr& sequence : running_) {
    sequence->decodes_now = false;
    if (sequence->decodes())
      rows.push_back(sequence.get());
    else
      prefill_pending += sequence->remaining();
  }
  const std::int64_t reserve = std::max(1, limits_.step_tokens_max / 4);
  const auto cap = static_cast<std::size_t>(limits_.step_tokens_max -
                                            static_cast<int>(std::min(prefill_pending, reserve)));
  if (rows.size() > cap) {
    // Least recently served first: rows that keep arriving don't hold up those that wait.
    std::ranges::sort(
        rows, {}, [](const Sequence* row) { return std::pair{row->served_in, row->rank}; });
    rows.resize(cap);
  }
  for (Sequence* row : rows) row->decodes_now = true;
}

void Scheduler::grow_decode_rows() {
  // By rank: who is preempted is of a later one and has not grown yet.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& row = *running_[i];
    if (!row.decodes_now) continue;
    const int needed = limits_.blocks_for(row.computed + 1);
    while (!kv_.grow(row.kv, needed)) {
      const bool itself = i + 1 == running_.size();
      preempt_last();
      if (itself) break;
    }
  }
}

void Scheduler::preempt_last() {
  SequencePtr sequence = std::move(running_.back());
  running_.pop_back();
  kv_.release(sequence->kv);
  sequence->computed = 0;
  sequence->counted = true;
  sequence->decodes_now = false;
  wait(std::move(sequence));
  ++counts_.preemptions;
}

/// Those to prefill in this step, by rank: without those that wait for a block which another one
/// computes, which they then take. That one is never served later than they would be.
std::vector<Sequence*> Scheduler::prompts() {
  std::vector<Sequence*> prompts;
  for (const SequencePtr& sequence : running_)
    if (!sequence->decodes()) prompts.push_back(sequence.get());
  if (!kv_.keeps_prefixes() || prompts.size() < 2) return prompts;

  std::vector<Sequence*> served = prompts;
  std::ranges::stable_sort(served.begin() + 1, served.end(), {}, &Sequence::remaining);
  std::set<NextBlock> under_way;
  std::set<const Sequence*> followers;
  for (const Sequence* sequence : served) {
    const auto index = sequence->kv.nodes.size();
    const auto size = static_cast<std::size_t>(limits_.block_tokens);
    if ((index + 1) * size > sequence->tokens.size()) continue;
    const NextBlock next{.parent = index == 0 ? NodeId::kRoot : sequence->kv.nodes.back(),
                         .tokens = std::span{sequence->tokens}.subspan(index * size, size)};
    const bool may_take = static_cast<int>((index + 1) * size) <= sequence->match_limit();
    if (!under_way.insert(next).second && may_take) followers.insert(sequence);
  }
  std::erase_if(prompts, [&](const Sequence* each) { return followers.contains(each); });
  return prompts;
}

void Scheduler::add_decode_rows() {
  for (const SequencePtr& sequence : running_)
    if (sequence->decodes_now) add_segment(*sequence, 1);
}

double Scheduler::chunk_seconds_max(const StepCost& cost) const {
  if (plan_.rows.empty() || limits_.stall_max_s <= 0)
    return std::numeric_limits<double>::infinity();
  double decode = cost.step_seconds;
  for (const Segment& segment : plan_.step.segments) decode += cost.chunk(segment.kv_len - 1, 1);
  return std::max(limits_.stall_max_s - decode, decode / 3);
}

void Scheduler::add_chunks(const StepCost& cost) {
  std::vector<Sequence*> chosen;
  std::vector<int> remaining;
  int prompt_rows_left = kPromptRowsMax;
  for (Sequence* prompt : prompts()) {
    int tokens = prompt->remaining();
    if (prompt->wants_prompt_logits()) {
      tokens = std::min(tokens, prompt_rows_left);
      prompt_rows_left -= tokens;
      if (tokens == 0) continue;
    }
    chosen.push_back(prompt);
    remaining.push_back(tokens);
  }

  const double seconds_max = chunk_seconds_max(cost);
  const auto fits = [&](const std::vector<int>& shares) {
    double seconds = 0;
    for (std::size_t i = 0; i < shares.size(); ++i)
      seconds += cost.chunk(chosen[i]->computed, shares[i]);
    return seconds <= seconds_max;
  };
  int budget = limits_.step_tokens_max - static_cast<int>(plan_.step.tokens.size());
  std::vector<int> shares = share_prefill(remaining, budget);
  if (!fits(shares)) {
    int known = 1;  // the most known to fit, but for one token, which always goes
    while (known + 1 < budget) {
      const int middle = known + (budget - known) / 2;
      (fits(share_prefill(remaining, middle)) ? known : budget) = middle;
    }
    shares = share_prefill(remaining, known);
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (shares[i] == 0) continue;
    add_segment(*chosen[i], shares[i]);
    plan_.prefill_tokens += shares[i];
  }
}

void Scheduler::add_segment(Sequence& sequence, int tokens) {
  Step& step = plan_.step;
  const int from = sequence.computed;
  const int kv_len = from + tokens;
  const int blocks = limits_.blocks_for(kv_len);
  MLXS_ASSERT(blocks <= static_cast<int>(sequence.kv.blocks.size()));
  MLXS_ASSERT(kv_.writable(sequence.kv, from));
  kv_.grow_windows(sequence.kv, blocks);
  const auto first = static_cast<int>(step.tokens.size());
  step.segments.push_back(
      {.q_start = first,
       .q_len = tokens,
       .kv_len = kv_len,
       .blocks = {sequence.kv.blocks.begin(), sequence.kv.blocks.begin() + blocks}});
  for (const WindowHold& window : sequence.kv.windows)
    step.segments.back().window_blocks.push_back(whole_table(window, blocks));
  step.tokens.insert(
      step.tokens.end(), sequence.tokens.begin() + from, sequence.tokens.begin() + kv_len);
  plan_.rows.push_back(sequence.choices.front());
  sequence.planned = tokens;
  sequence.served_in = plans_;

  const int wanted_until = std::min(kv_len, sequence.prompt_tokens - 1);
  for (int at = std::max(from, sequence.prompt_logits_from); at < wanted_until; ++at) {
    for (const SequenceId choice : sequence.choices)
      plan_.prompt_rows.push_back({.sequence = choice,
                                   .position = at + 1,
                                   .logits_row = static_cast<int>(step.logits_at.size())});
    step.logits_at.push_back(first + at - from);
  }
  if (kv_len < sequence.size()) return;  // not the final chunk
  for (const SequenceId choice : sequence.choices)
    plan_.draws.push_back({.sequence = choice,
                           .position = kv_len,
                           .logits_row = static_cast<int>(step.logits_at.size()),
                           .cached_tokens = sequence.cached_tokens});
  step.logits_at.push_back(first + tokens - 1);
  drawing_.push_back(&sequence);
}

void Scheduler::commit(std::span<const Drawn> drawn) {
  MLXS_ASSERT(in_step_ && drawn.size() == plan_.draws.size());
  in_step_ = false;
  for (const SequencePtr& sequence : running_) {
    if (sequence->planned == 0) continue;
    sequence->computed += std::exchange(sequence->planned, 0);
    sequence->prompt_logits_from = std::max(sequence->prompt_logits_from, sequence->computed);
    kv_.publish(sequence->kv, sequence->tokens, sequence->computed);
  }
  std::vector<std::pair<Sequence*, std::vector<SequencePtr>>> forked;
  for (Sequence* sequence : drawing_) {
    const std::size_t choices = sequence->choices.size();
    auto forks = take_choices(*sequence, drawn.first(choices));
    if (!forks.empty()) forked.emplace_back(sequence, std::move(forks));
    drawn = drawn.subspan(choices);
  }
  (void)remove_if([](const Sequence& sequence) { return sequence.ended; });
  for (auto& [sequence, forks] : forked)
    for (SequencePtr& fork : forks) start_fork(std::move(fork), sequence->kv);
}

/// Gives `sequence` the first choice that goes on, and returns a sequence for each other one.
std::vector<Scheduler::SequencePtr> Scheduler::take_choices(Sequence& sequence,
                                                            std::span<const Drawn> drawn) {
  std::vector<SequencePtr> forks;
  std::vector<SequenceId> stays;
  TokenId token = 0;
  for (std::size_t k = 0; k < drawn.size(); ++k) {
    if (drawn[k].ended) continue;
    MLXS_ASSERT(sequence.size() + 1 < sequence.tokens_max);
    if (stays.empty()) {
      stays = {sequence.choices[k]};
      token = drawn[k].token;
      continue;
    }
    auto fork = std::make_unique<Sequence>();
    fork->choices = {sequence.choices[k]};
    fork->rank = {.due = sequence.rank.due, .arrival = sequence.rank.arrival + k};
    fork->tokens.reserve(sequence.tokens.size() + 1);
    fork->tokens = sequence.tokens;
    fork->tokens.push_back(drawn[k].token);
    fork->prompt_tokens = sequence.prompt_tokens;
    fork->tokens_max = sequence.tokens_max;
    fork->deadline = sequence.deadline;
    fork->prompt_logits_from = sequence.prompt_logits_from;
    fork->cached_tokens = sequence.cached_tokens;
    fork->counted = true;
    forks.push_back(std::move(fork));
  }
  sequence.ended = stays.empty();
  if (sequence.ended) return forks;
  here_ -= static_cast<int>(drawn.size() - 1 - forks.size());
  sequence.choices = std::move(stays);
  sequence.counted = true;
  sequence.tokens.push_back(token);
  return forks;
}

/// Runs a fork beside the sequence it comes from where there is room; else it waits like one that
/// was preempted.
void Scheduler::start_fork(SequencePtr fork, const KvHold& prompt) {
  const int full = fork->prompt_tokens / limits_.block_tokens;
  const int needed = limits_.blocks_for(fork->size());
  if (running() >= limits_.sequences_max || kv_.available() < needed - full + running())
    return wait(std::move(fork));
  fork->kv = kv_.fork(prompt, full);
  fork->computed = full * limits_.block_tokens;
  MLXS_ASSERT(kv_.grow(fork->kv, needed));
  run(std::move(fork));
}

std::vector<SequenceId> Scheduler::abort() {
  MLXS_ASSERT(in_step_);
  in_step_ = false;
  return remove_if([](const Sequence& sequence) { return sequence.planned > 0; });
}

std::int64_t Scheduler::queued_prefill_tokens() const {
  std::int64_t tokens = 0;
  for (const SequencePtr& sequence : waiting_) tokens += sequence->remaining();
  for (const SequencePtr& sequence : running_)
    if (!sequence->decodes()) tokens += sequence->remaining();
  return tokens;
}

}  // namespace mlxs::engine
