// The real scheduler and block pool over a made-up key/value memory, for millions of random steps.
//
// The memory notes which token of which sequence at which position was written to which slot, and
// the made-up model computes the next token from nothing but what a row's block table leads to. So
// cross-talk, use of a freed block, a missed position, a double write or a lost token shows at the
// step where it happens. MLXS_SIM_SEED chooses another run.

#include "engine/kv/block_pool.h"
#include "engine/schedule/scheduler.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error{what};
}

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

std::uint64_t extend(std::uint64_t hash, TokenId token) {
  return mix(hash ^ static_cast<std::uint64_t>(token));
}

TokenId next_token(std::uint64_t hash_of_history) {
  return static_cast<TokenId>(hash_of_history % 1000);
}
bool ends_answer(TokenId token) { return token % 16 == 0; }

struct Slot {
  SequenceId writer{};
  int position = -1;
  TokenId token = -1;
};

/// A sequence as the outside sees it.
struct Client {
  std::vector<TokenId> tokens;        // prompt and answer
  std::vector<std::uint64_t> hashes;  // hashes[n]: of the first n tokens
  std::size_t tokens_max = 0;
  int computed = 0;
  int passed_over = 0;  // steps in a row in which it could decode and didn't
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
};

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
    pool_.emplace(limits_.blocks_total);
    scheduler_.emplace(limits_, *pool_);
    slots_.resize(static_cast<std::size_t>(limits_.blocks_total * limits_.block_tokens));
    arrival_percent_ = between(5, 90);
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
    require(scheduler_->idle(), "the scheduler keeps a sequence nobody has");
    require(pool_->free() == pool_->total(), "blocks leak");
    require(scheduler_->plan().empty(), "a plan without sequences");
    tally_.preemptions += scheduler_->preemptions();
  }

 private:
  int between(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return between(0, 99) < percent; }

  void submit() {
    const SequenceId id{++last_id_};
    Client client;
    client.hashes = {0};
    const int prompt = chance(20) ? between(1, 64) : between(1, 12);
    for (int k = 0; k < prompt; ++k) client.append(between(0, 999));
    const int wanted = between(1, 40);
    client.deadline = chance(20) ? Deadline::at(now_ + Milliseconds{between(0, 300)}) : Deadline{};

    const auto accepted = scheduler_->submit({.choices = {id},
                                              .prompt = client.tokens,
                                              .completion_tokens_max = wanted,
                                              .deadline = client.deadline});
    if (!accepted) {
      ++tally_.refused;
      const bool full =
          static_cast<int>(clients_.size()) == limits_.sequences_max + limits_.waiting_max;
      const bool long_prompt = prompt >= limits_.context_tokens_max;
      const bool big_prompt = prompt > limits_.blocks_total * limits_.block_tokens;
      require(full || long_prompt || big_prompt, "refused without need");
      return;
    }
    client.tokens_max =
        client.tokens.size() +
        static_cast<std::size_t>(limits_.completion_tokens(client.tokens.size(), wanted).value());
    clients_.emplace(id, std::move(client));
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
    for (const SequenceId id : scheduler_->expire(now_)) {
      require(clients_.at(id).deadline.passed(now_), "expired too early");
      clients_.erase(id);
      ++tally_.expired;
    }
    for (const auto& [id, client] : clients_) require(!client.deadline.passed(now_), "not expired");
  }

  void step() {
    const std::uint64_t preemptions = scheduler_->preemptions();
    const StepPlan& plan = scheduler_->plan();
    require(plan.empty() == clients_.empty(), "idle while there is work, or the reverse");
    if (plan.empty()) return;
    ++tally_.steps;
    forget_preempted();
    check_plan(plan, scheduler_->preemptions() > preemptions);
    if (chance(1)) {
      for (const SequenceId id : plan.rows) clients_.erase(id);
      scheduler_->abort();
      ++tally_.aborted;
    } else {
      write(plan);
      commit(plan);
    }
    require(scheduler_->running() + scheduler_->waiting() == static_cast<int>(clients_.size()),
            "sequences lost or kept");
  }

  // What waits after a plan holds nothing: it is new or was preempted.
  void forget_preempted() {
    auto waiting = std::next(clients_.begin(), scheduler_->running());
    for (; waiting != clients_.end(); ++waiting) waiting->second.computed = 0;
  }

  void check_plan(const StepPlan& plan, bool preempted) {
    const Step& step = plan.step;
    const int tokens = static_cast<int>(step.tokens.size());
    require(tokens <= limits_.step_tokens_max, "over the token budget");
    require(plan.rows.size() == step.segments.size(), "rows and segments disagree");
    require(static_cast<int>(plan.rows.size()) <= scheduler_->running() &&
                scheduler_->running() <= limits_.sequences_max,
            "more rows than may run");
    check_segments(plan);
    check_order(plan);

    int work = 0;  // that could have been done by what runs
    auto client = clients_.begin();
    bool oldest_prompt = true;
    for (int k = 0; k < scheduler_->running(); ++k, ++client) {
      const int remaining =
          static_cast<int>(client->second.tokens.size()) - client->second.computed;
      work += remaining;
      const bool planned = std::ranges::find(plan.rows, client->first) != plan.rows.end();
      if (remaining > 1 && std::exchange(oldest_prompt, false))
        require(planned, "the oldest prompt gets nothing");
      client->second.passed_over = planned || remaining > 1 ? 0 : client->second.passed_over + 1;
      require(client->second.passed_over <= limits_.sequences_max, "a decode row starves");
    }
    // A preemption leaves a gap: it comes after the budget was split.
    require(preempted || tokens == std::min(work, limits_.step_tokens_max), "budget left unused");
    if (scheduler_->waiting() > 0 && scheduler_->running() < limits_.sequences_max && !preempted) {
      const int needed = limits_.blocks_for(static_cast<int>(client->second.tokens.size()));
      require(pool_->free() < needed + scheduler_->running(),
              "not admitted in spite of free blocks");
    }
  }

  void check_segments(const StepPlan& plan) {
    const Step& step = plan.step;
    std::unordered_set<int> blocks;
    int at = 0;
    std::size_t wanted = 0;
    int prefill_tokens = 0;
    int prompts = 0;
    bool seen_prompt = false;
    for (std::size_t i = 0; i < step.segments.size(); ++i) {
      const Segment& segment = step.segments[i];
      const Client& client = clients_.at(plan.rows[i]);
      require(segment.q_start == at && segment.q_len >= 1, "segments are not contiguous");
      at += segment.q_len;
      require(static_cast<int>(segment.blocks.size()) == limits_.blocks_for(segment.kv_len),
              "the block table has the wrong size");
      require(segment.kv_len - segment.q_len == client.computed,
              "a position is skipped or written twice");
      for (const BlockId block : segment.blocks) {
        require(blocks.insert(static_cast<int>(block)).second, "two rows share a block");
        require(pool_->holders(block) == 1, "a freed or shared block");
      }
      const int remaining = static_cast<int>(client.tokens.size()) - client.computed;
      if (remaining > 1) {
        seen_prompt = true;
        ++prompts;
        prefill_tokens += segment.q_len;
      } else {
        require(!seen_prompt, "a decode row after a prompt");
      }
      for (int k = 0; k < segment.q_len; ++k)
        require(step.tokens[static_cast<std::size_t>(segment.q_start + k)] ==
                    client.tokens[static_cast<std::size_t>(client.computed + k)],
                "wrong tokens");
      if (segment.kv_len == static_cast<int>(client.tokens.size())) {
        require(wanted < plan.draws.size() && step.logits_at[wanted] == at - 1 &&
                    plan.draws[wanted].sequence == plan.rows[i] &&
                    plan.draws[wanted].position == segment.kv_len,
                "logits of a final chunk are missing");
        ++wanted;
      }
    }
    require(at == static_cast<int>(step.tokens.size()), "segments don't cover the tokens");
    require(wanted == plan.draws.size() && wanted == step.logits_at.size(), "too many logits");
    require(prefill_tokens == plan.prefill_tokens, "prefill tokens are miscounted");
    tally_.mixed_steps += prompts > 0 && prompts < static_cast<int>(plan.rows.size());
    tally_.shared_prefills += prompts > 1;
  }

  // First come, first served: what runs are the oldest, so nothing waits for what came later.
  void check_order(const StepPlan& plan) {
    const auto first_waiting = std::next(clients_.begin(), scheduler_->running());
    const std::uint64_t bound = first_waiting == clients_.end()
                                    ? last_id_ + 1
                                    : static_cast<std::uint64_t>(first_waiting->first);
    std::unordered_set<std::uint64_t> seen;
    for (const SequenceId id : plan.rows) {
      require(static_cast<std::uint64_t>(id) < bound, "overtaken while waiting");
      require(seen.insert(static_cast<std::uint64_t>(id)).second, "a row twice in a step");
    }
  }

  Slot& slot(const Segment& segment, int position) {
    const auto block = segment.blocks[static_cast<std::size_t>(position / limits_.block_tokens)];
    return slots_[static_cast<std::size_t>(block) * static_cast<std::size_t>(limits_.block_tokens) +
                  static_cast<std::size_t>(position % limits_.block_tokens)];
  }

  void write(const StepPlan& plan) {
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      for (int k = 0; k < segment.q_len; ++k) {
        const int position = segment.kv_len - segment.q_len + k;
        slot(segment, position) = {plan.rows[i],
                                   position,
                                   plan.step.tokens[static_cast<std::size_t>(segment.q_start + k)]};
      }
      clients_.at(plan.rows[i]).computed = segment.kv_len;
    }
  }

  void commit(const StepPlan& plan) {
    std::vector<Drawn> drawn;
    std::vector<SequenceId> ended;
    std::size_t draw = 0;
    for (std::size_t i = 0; i < plan.rows.size(); ++i) {
      const Segment& segment = plan.step.segments[i];
      Client& client = clients_.at(plan.rows[i]);
      std::uint64_t hash = 0;
      for (int position = 0; position < segment.kv_len; ++position) {
        const Slot& stored = slot(segment, position);
        require(stored.writer == plan.rows[i] && stored.position == position,
                "reads keys and values that are not its own");
        hash = extend(hash, stored.token);
      }
      require(hash == client.hashes[static_cast<std::size_t>(segment.kv_len)],
              "not the history it would have alone");
      if (draw == plan.draws.size() || plan.draws[draw].sequence != plan.rows[i]) continue;
      ++draw;
      const TokenId token = next_token(hash);
      client.append(token);
      const bool end = ends_answer(token) || client.tokens.size() == client.tokens_max;
      if (end) ended.push_back(plan.rows[i]);
      drawn.push_back({.token = token, .ended = end});
    }
    scheduler_->commit(drawn);
    for (const SequenceId id : ended) clients_.erase(id);
    tally_.finished += ended.size();
  }

  std::mt19937_64& random_;
  Tally& tally_;
  SchedulerLimits limits_;
  std::optional<BlockPool> pool_;
  std::optional<Scheduler> scheduler_;
  std::vector<Slot> slots_;
  std::map<SequenceId, Client> clients_;  // by id, so by age
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

// R-ENG-2 and R-ENG-3 for the part of the engine that has no tensors.
TEST(SchedulerSim, KeepsItsPromisesOverMillionsOfRandomSteps) {
  const char* chosen = std::getenv("MLXS_SIM_SEED");
  const std::uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 1;
  fmt::print("seed {}\n", seed);

  const std::uint64_t worlds = MLXS_SIM_WORLDS;  // fewer under a sanitizer, which is slow
  const Tally tally = simulate(seed, static_cast<int>(worlds), 1000);

  fmt::print(
      "{} steps ({} mixed, {} with several prompts), {} finished, {} cancelled, {} expired, "
      "{} refused, {} steps failed, {} preemptions\n",
      tally.steps,
      tally.mixed_steps,
      tally.shared_prefills,
      tally.finished,
      tally.cancelled,
      tally.expired,
      tally.refused,
      tally.aborted,
      tally.preemptions);
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
}

// Found that decode rows starved behind younger ones that kept arriving.
TEST(SchedulerSim, StillHoldsForASeedThatOnceFailed) { (void)simulate(2, 170, 1000); }

}  // namespace
}  // namespace mlxs::engine
