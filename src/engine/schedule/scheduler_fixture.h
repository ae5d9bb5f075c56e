#pragma once

#include "engine/kv/block_pool.h"
#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace mlxs::engine {

inline std::vector<int> lengths(const StepPlan& plan) {
  std::vector<int> lengths;
  for (const Segment& segment : plan.step.segments) lengths.push_back(segment.q_len);
  return lengths;
}

inline std::vector<int> rows(const StepPlan& plan) {
  std::vector<int> rows;
  for (const SequenceId id : plan.rows) rows.push_back(static_cast<int>(id));
  return rows;
}

/// A scheduler with small limits and blocks of four positions.
class SchedulerTest : public ::testing::Test {
 protected:
  void make(int blocks_total = 100,
            int step_tokens_max = 16,
            int sequences_max = 8,
            int waiting_max = 8) {
    pool.emplace(blocks_total);
    limits = {.sequences_max = sequences_max,
              .waiting_max = waiting_max,
              .step_tokens_max = step_tokens_max,
              .context_tokens_max = 200,
              .block_tokens = 4,
              .blocks_total = blocks_total};
    scheduler.emplace(limits, *pool);
  }
  Result<void> submit(int id,
                      int prompt_tokens,
                      int completion_tokens = 100,
                      Deadline deadline = {}) {
    return scheduler->submit(
        {.choices = {SequenceId{static_cast<std::uint64_t>(id)}},
         .prompt = std::vector<TokenId>(static_cast<std::size_t>(prompt_tokens), id),
         .completion_tokens_max = completion_tokens,
         .deadline = deadline});
  }
  /// Plans a step and commits it; everyone draws token 7 and goes on.
  StepPlan step() {
    StepPlan plan = scheduler->plan();
    if (!plan.empty())
      scheduler->commit(std::vector<Drawn>(plan.draws.size(), {.token = 7, .ended = false}));
    return plan;
  }

  [[nodiscard]] int available() const { return pool->free() + scheduler->prefixes().evictable(); }

  SchedulerLimits limits;
  std::optional<BlockPool> pool;
  std::optional<Scheduler> scheduler;
};

}  // namespace mlxs::engine
