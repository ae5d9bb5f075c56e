#include "engine/engine.h"

#include "base/assert.h"
#include "engine/kv/block_pool.h"
#include "engine/schedule/scheduler.h"
#include "engine/sequence_row.h"
#include "engine/step_model.h"
#include "engine/step_times.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace mlxs::engine {
namespace {

// Of the latency budget; the rest is for what steps so far don't tell of the next. Planned to the
// brim, one step in twenty came out a few milliseconds above (bench/engine, joins:16:4096).
constexpr double kPlannedShare = 0.95;
constexpr std::chrono::minutes kFailureWindow{1};  // two failed steps within it: broken

class LiveEngine final : public Engine {
 public:
  LiveEngine(DetokenizerFactory make_detokenizer, StepSink sink)
      : make_detokenizer_{std::move(make_detokenizer)}, sink_{std::move(sink)} {}

  Result<void> start(const RunnerFactory& make_runner, const EngineLimits& limits);
  ~LiveEngine() override;

  const ModelInfo& info() const override { return info_; }
  Result<void> submit(std::span<const SequenceId> ids, GenerationRequest request) override;
  void cancel(SequenceId id) override;
  EngineStats stats() const override;

 private:
  struct Submission {
    std::vector<SequenceId> ids;
    GenerationRequest request;
    TimePoint at;
  };
  // What the engine thread has made of one turn, handed over in one go.
  struct Turn {
    std::vector<GenerationEvent> events;
    std::vector<SequenceId> gone;  // ended in whatever way
  };

  Result<void> set_up(const RunnerFactory& make_runner, const EngineLimits& limits);
  Result<void> check_first_token(double prompt_tokens) const;
  Result<void> check_ids(const GenerationRequest& request) const;
  void loop();
  bool wait_for_work(std::vector<Submission>& inbox, std::vector<SequenceId>& cancels);
  void accept(Submission&& submission, Turn& turn);
  void drop(SequenceId id, Turn& turn);
  void fail_row(SequenceId id, Error error, Turn& turn);
  void run_step(const StepPlan& plan, Turn& turn);
  Drawn draw(const Draw& draw, std::span<const float> logits, Turn& turn);
  void note_failed_step(const Error& error);
  void publish(Turn& turn);

  const DetokenizerFactory make_detokenizer_;
  const StepSink sink_;

  // Set before the thread starts its loop, then constant.
  ModelInfo info_;
  SchedulerLimits limits_;
  Milliseconds first_token_max_{0};
  double first_token_max_s_ = 0;

  mutable std::mutex mutex_;  // guards the next group
  std::condition_variable work_;
  std::vector<Submission> inbox_;        // at most as many as are live
  std::vector<SequenceId> cancels_;      // likewise
  std::unordered_set<SequenceId> live_;  // submitted and not gone
  EngineStats stats_;                    // but for what stats() computes
  StepTimes step_times_;
  StepCost cost_;
  TimePoint progress_at_;
  bool stopping_ = false;

  // Engine thread only.
  std::unique_ptr<Runner> runner_;
  std::optional<BlockPool> blocks_;
  std::optional<Scheduler> scheduler_;
  DrawScratch draw_scratch_;
  std::unordered_map<SequenceId, SequenceRow> rows_;
  EngineStats counters_;  // the running totals, copied to stats_ by publish
  StepModel step_model_;
  std::optional<double> step_seconds_;
  std::optional<TimePoint> step_end_;  // of the step before, unless nothing was left to do after it
  std::optional<TimePoint> failed_step_at_;

  std::thread thread_;
};

Result<void> LiveEngine::start(const RunnerFactory& make_runner, const EngineLimits& limits) {
  std::promise<Result<void>> ready;
  auto made = ready.get_future();
  // The promise moves in, since its waiter may be gone before set_value returns.
  thread_ = std::thread{[&make_runner, &limits, this, ready = std::move(ready)]() mutable {
    Result<void> set = set_up(make_runner, limits);
    const bool go_on = set.has_value();
    ready.set_value(std::move(set));  // the references are gone from here on
    if (go_on) loop();
    // Arrays belong to this thread: what holds them ends here.
    rows_.clear();
    runner_.reset();
  }};
  return made.get();
}

LiveEngine::~LiveEngine() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> LiveEngine::set_up(const RunnerFactory& make_runner, const EngineLimits& limits) {
  auto runner = make_runner();
  if (!runner) return runner.error();
  runner_ = std::move(*runner);
  info_ = runner_->info();
  limits_ = {
      .sequences_max = limits.sequences_max,
      .waiting_max = limits.waiting_max,
      .step_tokens_max = limits.step_tokens_max,
      .context_tokens_max = info_.context_tokens_max,
      .block_tokens = info_.block_tokens,
      .blocks_total = info_.blocks_total,
      .windows = info_.windows,
      .prefix_cache = limits.prefix_cache,
      .stall_max_s = kPlannedShare * std::chrono::duration<double>(limits.latency_budget).count()};
  first_token_max_ = limits.first_token_max;
  first_token_max_s_ = std::chrono::duration<double>(limits.first_token_max).count();
  MLXS_TRY(limits_.validate());
  blocks_.emplace(info_.blocks_total);
  scheduler_.emplace(limits_, *blocks_);
  counters_.blocks_total = counters_.blocks_free = info_.blocks_total;
  for (const KvWindow& window : info_.windows) counters_.window_blocks_total += window.blocks_total;
  counters_.window_blocks_free = counters_.window_blocks_total;
  stats_ = counters_;
  return {};
}

Result<void> LiveEngine::submit(std::span<const SequenceId> ids, GenerationRequest request) {
  MLXS_ASSERT(!ids.empty() && !request.prompt.empty() && request.completion_tokens_max >= 1);
  const auto completion =
      limits_.completion_tokens(request.prompt.size(), request.completion_tokens_max);
  if (!completion) return completion.error();
  request.completion_tokens_max = *completion;
  MLXS_ASSERT(request.resume.empty() || ids.size() == 1);
  if (static_cast<int>(request.resume.size()) >= request.completion_tokens_max)
    return fail(ErrorCode::kInvalidRequest,
                "The tokens to resume from leave nothing to generate.",
                "mlxs.resume");
  MLXS_TRY(check_ids(request));
  {
    const std::lock_guard lock{mutex_};
    const std::size_t live_max = static_cast<std::size_t>(limits_.sequences_max) +
                                 static_cast<std::size_t>(limits_.waiting_max);
    if (live_.size() + ids.size() > live_max)
      return fail(
          ErrorCode::kOverloaded,
          fmt::format(
              "{} sequences are running or waiting, of {} that may, and {} more were asked for.",
              live_.size(),
              live_max,
              ids.size()));
    MLXS_TRY(check_first_token(static_cast<double>(request.prompt.size())));
    if (live_.empty()) progress_at_ = Clock::now();
    for (const SequenceId id : ids) MLXS_ASSERT(live_.insert(id).second);
    inbox_.push_back({{ids.begin(), ids.end()}, std::move(request), Clock::now()});
  }
  work_.notify_one();
  return {};
}

Result<void> LiveEngine::check_ids(const GenerationRequest& request) const {
  const auto check = [this](
                         TokenId token, std::string_view what, std::string param) -> Result<void> {
    if (token >= 0 && token < info_.vocab_size) return {};
    return fail(
        ErrorCode::kInvalidRequest,
        fmt::format(
            "Token ids of {} must be in [0, {}), but one is {}.", what, info_.vocab_size, token),
        std::move(param));
  };
  for (const TokenId token : request.prompt) MLXS_TRY(check(token, "the prompt", "prompt"));
  for (const TokenId token : request.resume) MLXS_TRY(check(token, "mlxs.resume", "mlxs.resume"));
  for (const TokenId token : request.stop_tokens)
    MLXS_TRY(check(token, "stop_token_ids", "stop_token_ids"));
  for (const LogitBias& entry : request.sampling.bias)
    MLXS_TRY(check(entry.token, "logit_bias", "logit_bias"));
  return {};
}

/// Under the lock. What is queued is prefilled within the time that decode rows leave, and the
/// oldest prompt gets half of that at least.
Result<void> LiveEngine::check_first_token(double prompt_tokens) const {
  if (first_token_max_s_ <= 0) return {};
  double tokens = static_cast<double>(stats_.queued_prefill_tokens) + prompt_tokens;
  for (const Submission& submission : inbox_)
    tokens += static_cast<double>(submission.request.prompt.size());
  const double prefill =
      cost_.chunk(0, prompt_tokens) + (tokens - prompt_tokens) * cost_.token_seconds;
  const double decode = cost_.step_seconds + stats_.running * cost_.token_seconds;
  const double budget = std::max(limits_.stall_max_s, decode * 4 / 3);
  // Before the first steps nothing is known, and nothing refused.
  const double left = budget > 0 ? (budget - decode) / budget : 1;
  const double share = live_.empty() ? 1 : left / 2;
  if (prefill <= first_token_max_s_ * share) return {};
  return fail(ErrorCode::kOverloaded,
              fmt::format("The first token would take {:.1f} s with the {:.0f} prompt tokens that "
                          "are queued, and may take {:.1f} s.",
                          prefill / share,
                          tokens - prompt_tokens,
                          first_token_max_s_));
}

void LiveEngine::cancel(SequenceId id) {
  {
    const std::lock_guard lock{mutex_};
    if (!live_.contains(id) || std::ranges::find(cancels_, id) != cancels_.end()) return;
    cancels_.push_back(id);
  }
  work_.notify_one();
}

EngineStats LiveEngine::stats() const {
  EngineStats stats;
  StepTimes times;
  {
    const std::lock_guard lock{mutex_};
    stats = stats_;
    times = step_times_;
    stats.waiting = static_cast<int>(live_.size()) - stats.running;
    for (const Submission& submission : inbox_)
      stats.queued_prefill_tokens += static_cast<std::int64_t>(submission.request.prompt.size());
    if (!live_.empty())
      stats.stalled = std::chrono::duration_cast<Milliseconds>(Clock::now() - progress_at_);
  }
  std::tie(stats.step_seconds_p50, stats.step_seconds_p95) = times.p50_p95();
  return stats;
}

bool LiveEngine::wait_for_work(std::vector<Submission>& inbox, std::vector<SequenceId>& cancels) {
  inbox.clear();
  cancels.clear();
  std::unique_lock lock{mutex_};
  work_.wait(lock, [this] {
    return stopping_ || !inbox_.empty() || !cancels_.empty() || !scheduler_->idle();
  });
  inbox.swap(inbox_);
  cancels.swap(cancels_);
  return !stopping_;
}

void LiveEngine::loop() {
  std::vector<Submission> inbox;
  std::vector<SequenceId> cancels;
  while (wait_for_work(inbox, cancels)) {
    if (scheduler_->idle()) step_end_.reset();
    Turn turn;
    for (Submission& submission : inbox) accept(std::move(submission), turn);
    for (const SequenceId id : cancels)
      if (scheduler_->cancel(id)) {
        drop(id, turn);
        ++counters_.cancelled;
      }
    for (const SequenceId id : scheduler_->expire(Clock::now(), step_model_.token_seconds_least()))
      fail_row(id,
               fail(ErrorCode::kDeadlineExceeded,
                    "The request's deadline passed before its answer was complete."),
               turn);
    for (const SequenceId id : scheduler_->overdue(Clock::now()))
      fail_row(id,
               fail(ErrorCode::kOverloaded,
                    fmt::format("There was no room for this request within {:.1f} s, the longest "
                                "that a first token may take.",
                                first_token_max_s_)),
               turn);
    const StepPlan& plan = scheduler_->plan(step_model_.cost());
    publish(turn);  // before the step, so that nobody waits a step for what is over already
    if (plan.empty()) continue;
    run_step(plan, turn);
    publish(turn);
  }
}

void LiveEngine::accept(Submission&& submission, Turn& turn) {
  auto& [ids, request, at] = submission;
  for (const SequenceId id : ids) {
    rows_.try_emplace(id, id, info_, request, make_detokenizer_());
    ++request.sampling.choice;
  }
  counters_.prompt_tokens += request.prompt.size();
  if (!request.resume.empty())
    if (auto resumed = rows_.at(ids.front()).resume(request.resume); !resumed)
      return fail_row(ids.front(), std::move(resumed).error(), turn);
  // An answer that goes on has had its first token.
  const bool first_token_due = first_token_max_s_ > 0 && request.resume.empty();
  const bool prompt_logits = request.prompt_logits_wanted();
  request.completion_tokens_max -= static_cast<int>(request.resume.size());
  request.prompt.insert(request.prompt.end(), request.resume.begin(), request.resume.end());
  const auto queued = scheduler_->submit(
      {.choices = std::move(ids),
       .prompt = std::move(request.prompt),
       .completion_tokens_max = request.completion_tokens_max,
       .deadline = request.deadline,
       .row_deadline = first_token_due ? Deadline::after(first_token_max_, at) : Deadline{},
       .priority = request.priority,
       .prompt_logits = prompt_logits});
  MLXS_ASSERT(queued);  // our submit has checked the same limits
}

void LiveEngine::drop(SequenceId id, Turn& turn) {
  rows_.erase(id);
  turn.gone.push_back(id);
}

void LiveEngine::fail_row(SequenceId id, Error error, Turn& turn) {
  turn.events.push_back(rows_.at(id).fail(std::move(error)));
  drop(id, turn);
  ++counters_.failed;
}

void LiveEngine::run_step(const StepPlan& plan, Turn& turn) {
  const TimePoint begin = Clock::now();
  auto logits = runner_->run(plan.step);
  const bool at_once = logits.has_value();
  if (!at_once) {
    spdlog::warn(
        "[engine] step {} failed and is run again: {}", counters_.steps, logits.error().message);
    logits = runner_->run(plan.step);
  }
  if (logits) {
    MLXS_ASSERT(logits->vocab_size == info_.vocab_size);
    MLXS_ASSERT(logits->values.size() ==
                plan.step.logits_at.size() * static_cast<std::size_t>(logits->vocab_size));
    for (const PromptRow& row : plan.prompt_rows)
      rows_.at(row.sequence)
          .note_prompt(
              logits->row(static_cast<std::size_t>(row.logits_row)), row.position, draw_scratch_);
    std::vector<Drawn> drawn;
    drawn.reserve(plan.draws.size());
    for (const Draw& next : plan.draws)
      drawn.push_back(draw(next, logits->row(static_cast<std::size_t>(next.logits_row)), turn));
    scheduler_->commit(drawn);
  } else {
    note_failed_step(logits.error());
    for (const SequenceId id : scheduler_->abort()) fail_row(id, logits.error(), turn);
  }
  ++counters_.steps;
  const TimePoint end = Clock::now();
  step_seconds_ = std::chrono::duration<double>(end - begin).count();
  // Clients wait from step to step, so what lies between two counts as the latter's.
  if (at_once)
    step_model_.add(plan.step,
                    std::chrono::duration<double>(end - step_end_.value_or(begin)).count());
  step_end_ = end;
}

Drawn LiveEngine::draw(const Draw& draw, std::span<const float> logits, Turn& turn) {
  turn.events.push_back(
      rows_.at(draw.sequence)
          .draw(logits, static_cast<std::uint64_t>(draw.position), draw_scratch_));
  GenerationEvent& event = turn.events.back();
  const TokenId token = event.token_ids.empty() ? 0 : event.token_ids.front();
  if (!event.token_ids.empty()) ++counters_.completion_tokens;
  if (!event.finish) return {.token = token, .ended = false};
  // What a resumed answer had generated before is prompt to the scheduler, but not to the client.
  event.cached_tokens = std::min(draw.cached_tokens, event.prompt_tokens);
  ++(*event.finish == FinishReason::kError ? counters_.failed : counters_.finished);
  drop(draw.sequence, turn);
  return {.token = token, .ended = true};
}

void LiveEngine::note_failed_step(const Error& error) {
  const TimePoint now = Clock::now();
  ++counters_.failed_steps;
  if (failed_step_at_ && now - *failed_step_at_ < kFailureWindow) counters_.broken = true;
  failed_step_at_ = now;
  spdlog::error("[engine] step {} failed twice{}: {}",
                counters_.steps,
                counters_.broken ? ", the second such step within a minute" : "",
                error.message);
}

void LiveEngine::publish(Turn& turn) {
  counters_.running = scheduler_->running();
  counters_.queued_prefill_tokens = scheduler_->queued_prefill_tokens();
  counters_.blocks_free = blocks_->free() + scheduler_->prefixes().evictable();
  counters_.window_blocks_free = 0;
  for (const WindowBlocks& window : scheduler_->windows())
    counters_.window_blocks_free += window.pool().free() + window.evictable();
  const SchedulerCounts& counts = scheduler_->counts();
  counters_.preemptions = counts.preemptions;
  counters_.prefix_queries = counts.prefix_queries;
  counters_.prefix_hits = counts.prefix_hits;
  counters_.blocks_cached = scheduler_->prefixes().size();
  {
    const std::lock_guard lock{mutex_};
    stats_ = counters_;
    cost_ = step_model_.cost();
    for (const SequenceId id : turn.gone) live_.erase(id);
    if (step_seconds_) step_times_.add(*step_seconds_);
    progress_at_ = Clock::now();
  }
  step_seconds_.reset();
  turn.gone.clear();
  if (!turn.events.empty()) sink_(std::exchange(turn.events, {}));
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::start(const RunnerFactory& make_runner,
                                              DetokenizerFactory make_detokenizer,
                                              const EngineLimits& limits,
                                              StepSink sink) {
  auto engine = std::make_unique<LiveEngine>(std::move(make_detokenizer), std::move(sink));
  MLXS_TRY(engine->start(make_runner, limits));
  return std::unique_ptr<Engine>{std::move(engine)};
}

}  // namespace mlxs::engine
