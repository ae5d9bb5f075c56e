// The real scheduler and block pool over a made-up key/value memory, for millions of random steps.
//
// Each slot of the memory holds a position and a hash of the tokens up to it, made from the slot
// before it as a step wrote it; the made-up model computes the next token from nothing but what a
// row's block table leads to. So cross-talk, use of a freed block, a shared block that is written,
// a wrong prefix, a missed position or a lost token shows at the step where it happens.
// MLXS_SIM_SEED chooses another run, MLXS_SIM_WORLDS its length.

#include "engine/kv/block_pool.h"
#include "engine/schedule/scheduler.h"
#include "tests/sim/scheduler_traffic.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;

/// One scheduler with random limits and random traffic.
class World {
 public:
  World(std::mt19937_64& random, Tally& tally) : random_{random}, tally_{tally} {
    limits_.sequences_max = between(1, 8);
    limits_.waiting_max = between(0, 8);
    limits_.step_tokens_max = between(2, 40);
    limits_.context_tokens_max = between(4, 60);
    limits_.block_tokens = between(1, 8);
    limits_.blocks_total = between(1, 30);
    limits_.prefix_cache = chance(75);
    limits_.class_steps = between(0, 20);
    if (chance(50)) {
      limits_.stall_max_s = between(1, 60) * 1e-3;
      cost_ = {.step_seconds = between(0, 10) * 1e-3,
               .token_seconds = between(1, 20) * 1e-4,
               .read_seconds = between(0, 10) * 1e-5};
    }
    add_windows();
    pool_.emplace(limits_.blocks_total);
    scheduler_.emplace(limits_, *pool_);
    slots_.resize(static_cast<std::size_t>(limits_.blocks_total * limits_.block_tokens));
    arrival_percent_ = between(5, 90);
    for (std::vector<TokenId>& family : families_)
      for (int k = between(1, 50); k > 0; --k) family.push_back(between(0, 39));
  }

  void step_with_traffic() {
    while (chance(arrival_percent_)) submit();
    if (chance(4)) cancel();
    if (chance(20)) now_ += Milliseconds{between(0, 20)};
    expire();
    step();
  }

  /// Everything still here ends within the steps that its tokens can take, or it never will.
  void drain() {
    const std::size_t patience = 200 * (clients_.size() + 1);
    for (std::size_t k = 0; !clients_.empty(); ++k) {
      require(k < patience, "a sequence never ends");
      step();
    }
    const PrefixTree& tree = scheduler_->prefixes();
    require(scheduler_->idle(), "the scheduler keeps a sequence nobody has");
    require(pool_->free() + tree.evictable() == pool_->total(), "blocks leak");
    require(tree.size() == tree.evictable(), "a prefix keeps a taker nobody has");
    for (const WindowBlocks& window : scheduler_->windows()) {
      require(window.kept() == window.evictable() &&
                  window.pool().free() + window.kept() == window.pool().total(),
              "blocks of a window leak");
      tally_.window_prefix_hits += scheduler_->counts().prefix_hits;
    }
    require(limits_.prefix_cache || tree.size() == 0, "keeps prefixes without being asked to");
    require(scheduler_->plan(cost_).empty(), "a plan without sequences");
    tally_.preemptions += scheduler_->counts().preemptions;
    tally_.prefix_hits += scheduler_->counts().prefix_hits;
    tally_.evictions += tree.evictions();
  }

 private:
  int between(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(0, 99) < percent; }

  /// Drawn from a copy, so that a seed's worlds are otherwise what they were without windows.
  void add_windows() {
    std::mt19937_64 random = random_;
    const auto below = [&](int count) {
      return static_cast<int>(random() % static_cast<std::uint64_t>(count));
    };
    for (int k = below(4) - 1; k > 0; --k) {
      const int window = 1 + below(40);
      const int needed = window_blocks_needed(
          window, limits_.block_tokens, limits_.sequences_max, limits_.step_tokens_max);
      limits_.windows.push_back({window, std::min(limits_.blocks_total, needed)});
      window_slots_.emplace_back(
          static_cast<std::size_t>(limits_.windows.back().blocks_total * limits_.block_tokens));
    }
  }

  /// Prompts that often begin alike: a family's beginning, or an earlier answer, and some more.
  std::vector<TokenId> make_prompt() {
    std::vector<TokenId> prompt;
    if (chance(80)) {
      const auto& family = chance(20) && !last_answer_.empty()
                               ? last_answer_
                               : families_[static_cast<std::size_t>(between(0, 2))];
      const int length = chance(50) ? static_cast<int>(family.size())
                                    : between(0, static_cast<int>(family.size()));
      prompt.assign(family.begin(), family.begin() + length);
    }
    for (int k = prompt.empty() || chance(70) ? between(1, 12) : 0; k > 0; --k)
      prompt.push_back(between(0, 39));
    return prompt;
  }

  void submit() {
    Client client;
    client.hashes = {0};
    for (const TokenId token : make_prompt()) client.append(token);
    client.prompt_tokens = client.tokens.size();
    const int prompt = static_cast<int>(client.prompt_tokens);
    const int wanted = between(1, 40);
    client.deadline = chance(20) ? Deadline::at(now_ + Milliseconds{between(0, 300)}) : Deadline{};
    client.prompt_rows_next = chance(10) ? 1 : 0;
    std::vector<SequenceId> choices;
    for (int k = chance(25) ? between(1, 5) : 1; k > 0; --k)
      choices.push_back(SequenceId{++last_id_});

    const auto accepted = scheduler_->submit({.choices = choices,
                                              .prompt = client.tokens,
                                              .completion_tokens_max = wanted,
                                              .deadline = client.deadline,
                                              .priority = static_cast<Priority>(between(0, 2)),
                                              .prompt_logits = client.prompt_rows_next > 0});
    if (!accepted) {
      ++tally_.refused;
      const bool full = clients_.size() + choices.size() >
                        static_cast<std::size_t>(limits_.sequences_max + limits_.waiting_max);
      const bool long_prompt = prompt >= limits_.context_tokens_max;
      const bool big_prompt = prompt > limits_.blocks_total * limits_.block_tokens;
      require(full || long_prompt || big_prompt, "refused without need");
      return;
    }
    client.tokens_max =
        client.tokens.size() +
        static_cast<std::size_t>(limits_.completion_tokens(client.tokens.size(), wanted).value());
    for (const SequenceId id : choices) {
      clients_.emplace(id, client);
      ++client.choice;
    }
    tally_.forks += choices.size() - 1;
    require(static_cast<int>(clients_.size()) <= limits_.sequences_max + limits_.waiting_max,
            "more sequences than may be");
  }

  void cancel() {
    if (clients_.empty()) {
      require(!scheduler_->cancel(SequenceId{last_id_}), "cancelled what is not there");
      return;
    }
    const auto victim =
        std::next(clients_.begin(), between(0, static_cast<int>(clients_.size()) - 1));
    require(scheduler_->cancel(victim->first), "cannot cancel a sequence");
    clients_.erase(victim);
    ++tally_.cancelled;
  }

  void expire() {
    const double least = chance(50) ? 1e-3 : 0;
    for (const SequenceId id : scheduler_->expire(now_, least)) {
      const Client& client = clients_.at(id);
      const auto prefill = std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>{least * static_cast<double>(client.tokens.size())});
      require(client.deadline.passed(now_ + prefill), "expired too early");
      clients_.erase(id);
      ++tally_.expired;
    }
    for (const auto& [id, client] : clients_) require(!client.deadline.passed(now_), "not expired");
  }

  void step() {
    const std::uint64_t preemptions = scheduler_->counts().preemptions;
    const StepPlan& plan = scheduler_->plan(cost_);
    require(plan.empty() == clients_.empty(), "idle while there is work, or the reverse");
    if (plan.empty()) return;
    ++tally_.steps;
    check_plan(plan, scheduler_->counts().preemptions > preemptions);
    if (chance(1)) {
      const std::vector<SequenceId> gone = scheduler_->abort();
      for (const SequenceId id : plan.rows)
        require(std::ranges::find(gone, id) != gone.end(), "a failed row stays");
      for (const SequenceId id : gone) require(clients_.erase(id) == 1, "failed twice");
      ++tally_.aborted;
    } else {
      write(plan);
      commit(plan);
    }
    scheduler_->verify();
    for (const WindowBlocks& window : scheduler_->windows())
      tally_.windows_full += window.pool().free() == 0;
    require(scheduler_->running() + scheduler_->waiting() == static_cast<int>(clients_.size()),
            "sequences lost or kept");
  }

  void check_plan(const StepPlan& plan, bool preempted) {
    const int tokens = static_cast<int>(plan.step.tokens.size());
    require(tokens <= limits_.step_tokens_max, "over the token budget");
    require(plan.rows.size() == plan.step.segments.size(), "rows and segments disagree");
    require(static_cast<int>(plan.rows.size()) <= scheduler_->running() &&
                scheduler_->running() <= limits_.sequences_max,
            "more rows than may run");
    check_segments(plan);
    check_blocks(plan);
    check_ceiling(plan);
    check_turns(plan, preempted);
    if (preempted || tokens == limits_.step_tokens_max) return;
    // What is left over is of no use: nothing that may run in this step has more to do.
    bool cut = false;
    for (std::size_t i = 0; i < plan.rows.size(); ++i)
      cut |=
          plan.step.segments[i].kv_len < static_cast<int>(clients_.at(plan.rows[i]).tokens.size());
    const bool bounded = limits_.stall_max_s > 0 && plan.step.segments.size() > 0;
    require(!cut || bounded, "budget left unused");
    if (!limits_.prefix_cache && !bounded)
      require(static_cast<int>(plan.rows.size()) == scheduler_->running(), "a row left out");
  }

  int remaining(const StepPlan& plan, std::size_t i) const {
    const Segment& segment = plan.step.segments[i];
    return static_cast<int>(clients_.at(plan.rows[i]).tokens.size()) -
           (segment.kv_len - segment.q_len);
  }

  void check_segments(const StepPlan& plan) {
    const Step& step = plan.step;
    int at = 0;
    std::size_t draw = 0;
    std::size_t logits = 0;
    std::size_t prompt_row = 0;
    int prefill_tokens = 0;
    int prompts = 0;
    std::unordered_set<std::uint64_t> seen;
    for (std::size_t i = 0; i < step.segments.size(); ++i) {
      const Segment& segment = step.segments[i];
      const Client& client = clients_.at(plan.rows[i]);
      const int from = segment.kv_len - segment.q_len;
      require(seen.insert(static_cast<std::uint64_t>(plan.rows[i])).second, "a row twice");
      require(segment.q_start == at && segment.q_len >= 1, "segments are not contiguous");
      at += segment.q_len;
      require(static_cast<int>(segment.blocks.size()) == limits_.blocks_for(segment.kv_len),
              "the block table has the wrong size");
      require(from >= 0 && segment.kv_len <= static_cast<int>(client.tokens.size()),
              "positions that are not there");
      if (remaining(plan, i) > 1) {
        if (++prompts == 1) first_prompt_ = i;
        prefill_tokens += segment.q_len;
      } else {
        require(prompts == 0, "a decode row after a prompt");
      }
      for (int k = 0; k < segment.q_len; ++k)
        require(step.tokens[static_cast<std::size_t>(segment.q_start + k)] ==
                    client.tokens[static_cast<std::size_t>(from + k)],
                "wrong tokens");
      while (prompt_row < plan.prompt_rows.size() &&
             plan.prompt_rows[prompt_row].logits_row < static_cast<int>(step.logits_at.size()) &&
             step.logits_at[static_cast<std::size_t>(plan.prompt_rows[prompt_row].logits_row)] <
                 at) {
        const PromptRow& row = plan.prompt_rows[prompt_row++];
        require(row.position == from + 1 +
                                    step.logits_at[static_cast<std::size_t>(row.logits_row)] -
                                    segment.q_start,
                "logits of another position");
        logits = static_cast<std::size_t>(row.logits_row) + 1;
      }
      if (segment.kv_len < static_cast<int>(client.tokens.size())) continue;
      require(draw < plan.draws.size() && plan.draws[draw].sequence == plan.rows[i],
              "nothing is drawn after a final chunk");
      for (; draw < plan.draws.size() && plan.draws[draw].logits_row == static_cast<int>(logits);
           ++draw) {
        require(plan.draws[draw].position == segment.kv_len && step.logits_at[logits] == at - 1,
                "draws from the wrong logits");
        check_cached(plan.draws[draw]);
      }
      ++logits;
    }
    require(at == static_cast<int>(step.tokens.size()), "segments don't cover the tokens");
    require(draw == plan.draws.size() && logits == step.logits_at.size() &&
                prompt_row == plan.prompt_rows.size(),
            "too many logits");
    require(prefill_tokens == plan.prefill_tokens, "prefill tokens are miscounted");
    tally_.mixed_steps += prompts > 0 && prompts < static_cast<int>(plan.rows.size());
    tally_.shared_prefills += prompts > 1;
    if (prompts > 0)
      require(remaining(plan, first_prompt_) == step.segments[first_prompt_].q_len ||
                  2 * step.segments[first_prompt_].q_len >= prefill_tokens,
              "the first prompt gets less than half");
  }

  void check_cached(const Draw& draw) {
    const Client& client = clients_.at(draw.sequence);
    const bool may = limits_.prefix_cache && client.prompt_rows_next == 0;
    require(draw.cached_tokens >= 0 &&
                draw.cached_tokens < static_cast<int>(client.prompt_tokens) &&
                (may || draw.cached_tokens == 0),
            "more cached tokens than can be");
  }

  void check_blocks(const StepPlan& plan) {
    std::map<BlockId, int> tables;
    for (const Segment& segment : plan.step.segments)
      for (const BlockId block : segment.blocks) ++tables[block];
    for (const auto& [block, rows] : tables) {
      require(pool_->holders(block) >= rows, "fewer holders than takers");
      tally_.shared_blocks += rows > 1;
    }
    for (const Segment& segment : plan.step.segments)
      for (std::size_t k = first_written(segment); k < segment.blocks.size(); ++k)
        require(pool_->holders(segment.blocks[k]) == 1 && tables.at(segment.blocks[k]) == 1,
                "writes a block that others read");
    for (std::size_t w = 0; w < limits_.windows.size(); ++w) check_window_blocks(plan, w);
  }

  std::size_t first_written(const Segment& segment) const {
    return static_cast<std::size_t>((segment.kv_len - segment.q_len) / limits_.block_tokens);
  }

  void check_window_blocks(const StepPlan& plan, std::size_t w) {
    const BlockPool& pool = scheduler_->windows().at(w).pool();
    std::map<BlockId, int> tables;
    for (const Segment& segment : plan.step.segments) {
      const std::vector<BlockId>& table = segment.window_blocks.at(w);
      require(table.size() == segment.blocks.size(), "a window's table has the wrong size");
      const std::set<BlockId> row{table.begin(), table.end()};
      for (const BlockId block : row) ++tables[block];
      tally_.unseen += table.size() - row.size();
      // R-ENG-4: what the window reaches into, what is written, and a block at either end.
      const int most =
          limits_.blocks_for(limits_.windows[w].tokens) + limits_.blocks_for(segment.q_len) + 1;
      require(static_cast<int>(row.size()) <= most, "a window keeps more than it needs");
    }
    for (const auto& [block, rows] : tables)
      require(pool.holders(block) >= rows, "fewer holders of a window's block than takers");
    for (const Segment& segment : plan.step.segments)
      for (std::size_t k = first_written(segment); k < segment.blocks.size(); ++k) {
        const BlockId block = segment.window_blocks[w][k];
        require(pool.holders(block) == 1 && tables.at(block) == 1,
                "writes a window's block that others read");
      }
  }

  // R-ENG-5: a step with decode rows takes no longer than it may.
  void check_ceiling(const StepPlan& plan) {
    double decode = 0;
    double chunks = 0;
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      (remaining(plan, i) == 1 ? decode : chunks) +=
          cost_.chunk(segment.kv_len - segment.q_len, segment.q_len);
    }
    if (limits_.stall_max_s == 0 || decode == 0) return;
    decode += cost_.step_seconds;
    require(plan.prefill_tokens <= 1 ||
                decode + chunks <= std::max(limits_.stall_max_s, decode * 4 / 3) + 1e-9,
            "a step over its ceiling");
    tally_.cut_chunks +=
        static_cast<int>(plan.step.tokens.size()) < limits_.step_tokens_max && chunks > 0;
  }

  void check_turns(const StepPlan& plan, bool preempted) {
    for (auto& [id, client] : clients_) {
      const bool planned = std::ranges::find(plan.rows, id) != plan.rows.end();
      if (!planned && preempted) client.computed = 0;  // it may be the one
      const bool decodes =
          client.computed > 0 && client.computed + 1 == static_cast<int>(client.tokens.size());
      client.passed_over = planned || !decodes || preempted ? 0 : client.passed_over + 1;
      require(client.passed_over <= limits_.sequences_max, "a decode row starves");
    }
  }

  Slot& slot(std::vector<Slot>& slots, const std::vector<BlockId>& blocks, int position) {
    const auto block = blocks[static_cast<std::size_t>(position / limits_.block_tokens)];
    return slots[static_cast<std::size_t>(block) * static_cast<std::size_t>(limits_.block_tokens) +
                 static_cast<std::size_t>(position % limits_.block_tokens)];
  }
  Slot& slot(const Segment& segment, int position) {
    return slot(slots_, segment.blocks, position);
  }

  void write(const StepPlan& plan) {
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      for (int k = 0; k < segment.q_len; ++k) {
        const int position = segment.kv_len - segment.q_len + k;
        const std::uint64_t before = position == 0 ? 0 : slot(segment, position - 1).hash;
        slot(segment, position) = {
            position,
            extend(before, plan.step.tokens[static_cast<std::size_t>(segment.q_start + k)])};
        for (std::size_t w = 0; w < window_slots_.size(); ++w)
          slot(window_slots_[w], segment.window_blocks[w], position) = slot(segment, position);
      }
      clients_.at(plan.rows[i]).computed = segment.kv_len;
    }
  }

  void commit(const StepPlan& plan) {
    for (const PromptRow& row : plan.prompt_rows) {
      Client& client = clients_.at(row.sequence);
      require(row.position == client.prompt_rows_next++ && row.position > 0 &&
                  row.position < static_cast<int>(client.prompt_tokens),
              "logits of a prompt's position are missing or come twice");
    }
    std::vector<Drawn> drawn;
    std::vector<SequenceId> ended;
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      const Client& client = clients_.at(plan.rows[i]);
      const auto check = [&](const Slot& stored, int position) {
        require(stored.position == position &&
                    stored.hash == client.hashes[static_cast<std::size_t>(position) + 1],
                "reads keys and values of another history");
      };
      for (int position = 0; position < segment.kv_len; ++position)
        check(slot(segment, position), position);
      for (std::size_t w = 0; w < window_slots_.size(); ++w) {
        const int first_query = segment.kv_len - segment.q_len;
        for (int position = std::max(0, first_query - limits_.windows[w].tokens + 1);
             position < segment.kv_len;
             ++position)
          check(slot(window_slots_[w], segment.window_blocks[w], position), position);
      }
    }
    for (const Draw& draw : plan.draws) {
      Client& client = clients_.at(draw.sequence);
      require(draw.position == static_cast<int>(client.tokens.size()), "draws the wrong token");
      require(client.prompt_rows_next == 0 ||
                  client.prompt_rows_next == static_cast<int>(client.prompt_tokens),
              "draws before the prompt's logits are all there");
      const TokenId token = next_token(client.hashes.back(), client.choice);
      client.append(token);
      const bool end = ends_answer(token) || client.tokens.size() == client.tokens_max;
      if (end) ended.push_back(draw.sequence);
      drawn.push_back({.token = token, .ended = end});
    }
    scheduler_->commit(drawn);
    for (const SequenceId id : ended) {
      last_answer_ = clients_.at(id).tokens;
      clients_.erase(id);
    }
    tally_.finished += ended.size();
  }

  std::mt19937_64& random_;
  Tally& tally_;
  SchedulerLimits limits_;
  StepCost cost_;
  std::optional<BlockPool> pool_;
  std::optional<Scheduler> scheduler_;
  std::vector<Slot> slots_;
  std::vector<std::vector<Slot>> window_slots_;
  std::map<SequenceId, Client> clients_;
  std::array<std::vector<TokenId>, 3> families_;
  std::vector<TokenId> last_answer_;
  std::size_t first_prompt_ = 0;
  std::uint64_t last_id_ = 0;
  TimePoint now_{};
  int arrival_percent_ = 0;
};

Tally simulate(std::uint64_t seed, int worlds, int steps_each) {
  Tally tally;
  std::mt19937_64 random{seed};
  for (int w = 0; w < worlds; ++w) {
    try {
      World world{random, tally};
      for (int k = 0; k < steps_each; ++k) world.step_with_traffic();
      world.drain();
    } catch (const std::exception& error) {
      ADD_FAILURE() << fmt::format(
          "{} (MLXS_SIM_SEED={}, world {}, step {})", error.what(), seed, w, tally.steps);
      return tally;
    }
  }
  return tally;
}

// R-ENG-2, R-ENG-3 and R-ENG-5 for the part of the engine that has no tensors.
TEST(SchedulerSim, KeepsItsPromisesOverMillionsOfRandomSteps) {
  const char* chosen = std::getenv("MLXS_SIM_SEED");
  const std::uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 1;
  fmt::print("seed {}\n", seed);

  const char* length = std::getenv("MLXS_SIM_WORLDS");
  // Fewer under a sanitizer, which is slow.
  const std::uint64_t worlds =
      length != nullptr ? std::strtoull(length, nullptr, 10) : MLXS_SIM_WORLDS;
  const Tally tally = simulate(seed, static_cast<int>(worlds), 1000);

  fmt::print(
      "{} steps ({} mixed, {} with several prompts), {} finished, {} cancelled, {} expired, "
      "{} refused, {} steps failed, {} preemptions, {} blocks shared, {} prefix tokens found, "
      "{} evictions, {} forks, {} chunks cut, {} blocks of windows gone, {} prefix tokens found "
      "with windows, {} windows full\n",
      tally.steps,
      tally.mixed_steps,
      tally.shared_prefills,
      tally.finished,
      tally.cancelled,
      tally.expired,
      tally.refused,
      tally.aborted,
      tally.preemptions,
      tally.shared_blocks,
      tally.prefix_hits,
      tally.evictions,
      tally.forks,
      tally.cut_chunks,
      tally.unseen,
      tally.window_prefix_hits,
      tally.windows_full);
  if (HasFailure()) return;
  // The traffic reached what it is meant to test.
  EXPECT_GT(tally.steps, 500 * worlds);
  EXPECT_GT(tally.mixed_steps, 5 * worlds);
  EXPECT_GT(tally.shared_prefills, 5 * worlds);
  EXPECT_GT(tally.finished, 5 * worlds);
  EXPECT_GT(tally.cancelled, worlds / 2);
  EXPECT_GT(tally.expired, worlds / 2);
  EXPECT_GT(tally.refused, worlds / 2);
  EXPECT_GT(tally.aborted, worlds / 2);
  EXPECT_GT(tally.preemptions, 5 * worlds);
  EXPECT_GT(tally.shared_blocks, 50 * worlds);
  EXPECT_GT(tally.prefix_hits, 50 * worlds);
  EXPECT_GT(tally.evictions, 5 * worlds);
  EXPECT_GT(tally.forks, 5 * worlds);
  EXPECT_GT(tally.cut_chunks, 5 * worlds);
  EXPECT_GT(tally.unseen, 50 * worlds);
  EXPECT_GT(tally.window_prefix_hits, 20 * worlds);
  EXPECT_GT(tally.windows_full, 20 * worlds);
}

// Found that decode rows starved behind younger ones that kept arriving.
TEST(SchedulerSim, StillHoldsForASeedThatOnceFailed) { (void)simulate(2, 170, 1000); }

}  // namespace
}  // namespace mlxs::engine
