#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "engine/detokenizer.h"
#include "engine/runner.h"
#include "engine/types.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine {

class Tokenizer;

enum class FinishReason { kStop, kLength, kError };

/// What a sequence produced in one step. `token_ids` is never empty but in the last event of
/// sequences that failed; `text` may be, while characters or a possible stop string are withheld.
/// Unless it is cancelled, a sequence has exactly one event with `finish`, and none after it.
struct GenerationEvent {
  SequenceId sequence{};
  std::vector<TokenId> token_ids;
  std::string text;                         ///< Valid UTF-8; concatenation is the answer.
  std::optional<FinishReason> finish = {};  ///< Set in a sequence's last event.
  std::optional<Error> error = {};          ///< With FinishReason::kError.
  /// The tokens that spell `text`, where they were asked for: later than their ids while text is
  /// withheld, none for an end token or what is beyond a stop string.
  std::vector<TokenLogprob> logprobs = {};
  /// The prompt's tokens from the second on, without text, where they were asked for; in the first
  /// choice's first event.
  std::vector<TokenLogprob> prompt_logprobs = {};
  int prompt_tokens = 0;      ///< Set in the last event, as are the next two.
  int completion_tokens = 0;  ///< Tokens drawn, the end token included.
  int cached_tokens = 0;      ///< Of the prompt, taken from the prefix cache.
};

struct GenerationRequest {
  std::vector<TokenId> prompt;  ///< Never empty.
  SamplingParams sampling;
  int completion_tokens_max = 0;  ///< >= 1; cut to what the context leaves.
  std::vector<std::string> stop;  ///< Not part of the answer's text.
  Deadline deadline;
  Priority priority = Priority::kNormal;
  /// How many of the most probable tokens come with each token; nothing: no logprobs at all.
  std::optional<int> top_logprobs = {};
  /// Tokens of this answer that were generated already, here or elsewhere: they are gone through
  /// without events, and the answer goes on as if it had not been interrupted. They count in
  /// `completion_tokens_max` and in the usage. Only where there is one choice.
  std::vector<TokenId> resume = {};
  /// Logits at every position of the prompt are computed and looked at (echo with logprobs), so
  /// nothing of it is taken from the prefix cache. Only with `top_logprobs`.
  bool prompt_logprobs = false;

  /// Whether logits of all positions are needed: of the prompt, or of resumed tokens, some of which
  /// may be withheld still.
  [[nodiscard]] bool prompt_logits_wanted() const {
    return top_logprobs && (prompt_logprobs || !resume.empty());
  }
  /// Until so many tokens were generated no end token can come, and text is no part of a stop
  /// string.
  int min_tokens = 0;
  bool ignore_end_tokens = false;  ///< The model's end tokens end nothing; their text is none.
  std::vector<TokenId> stop_tokens = {};  ///< End tokens besides the model's.
};

struct EngineLimits {
  int sequences_max = 64;     ///< Rows in a step; >= 1.
  int waiting_max = 256;      ///< Sequences beyond `sequences_max`: then submit says kOverloaded.
  int step_tokens_max = 512;  ///< Tokens in a step, prefill chunks and rows together; >= 2.
  bool prefix_cache = true;   ///< Blocks of prompts and answers stay findable until needed.
  /// Ceiling of a step that decodes, as far as what steps took lets it be planned: prompts are
  /// prefilled in chunks that fit, but in a quarter of the step's time at least. 0: none.
  Milliseconds latency_budget{0};
  /// Ceiling of the time from submit to a first token. submit says kOverloaded when prefilling what
  /// is here would take longer than that. How long running answers keep their rows nobody knows, so
  /// what has no row by then ends with kOverloaded, at the latest after the step under way: with
  /// every row taken late, a first token comes after twice this time at most. 0: none.
  Milliseconds first_token_max{0};
};

/// A consistent snapshot.
struct EngineStats {
  std::uint64_t steps = 0;  ///< Moves whenever the engine thread gets on.
  int running = 0;
  int waiting = 0;
  std::int64_t queued_prefill_tokens = 0;
  int blocks_total = 0;
  int blocks_free = 0;    ///< Those that nothing running holds: empty, or kept by the prefix cache.
  int blocks_cached = 0;  ///< Those that the prefix cache can find, held or not.
  int window_blocks_total = 0;  ///< Of layers with sliding windows, which have blocks of their own.
  int window_blocks_free = 0;   ///< As blocks_free.
  std::uint64_t prompt_tokens = 0;   ///< Since start, as are the next eight.
  std::uint64_t prefix_queries = 0;  ///< Prompt tokens looked up in the prefix cache.
  std::uint64_t prefix_hits = 0;     ///< Those that were found.
  std::uint64_t completion_tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t finished = 0;      ///< Ended by themselves, not by an error or a cancel.
  std::uint64_t failed = 0;        ///< Sequences that ended with kError, deadlines included.
  std::uint64_t failed_steps = 0;  ///< Steps that failed, and failed again when retried.
  double step_seconds_p50 = 0;     ///< Over the last 256 steps.
  double step_seconds_p95 = 0;
  /// Time since the engine thread last got on, zero while there is no work (R-ENG-7).
  Milliseconds stalled{0};
  /// Two steps failed within a minute: whatever is wrong does not go away, the worker should be
  /// replaced. Stays set; the engine goes on trying all the same.
  bool broken = false;
};

/// Continuous batching over one Runner: owns the engine thread, which alone touches the runner,
/// the scheduler and the sequences. All members from any thread, the sink included.
///
/// A step that the runner fails is run once more; failing again ends the sequences in it with
/// kError events, and the engine goes on. A row whose logits are broken fails alone. A sequence
/// whose deadline passes ends with kDeadlineExceeded, at the latest after the step under way.
class Engine {
 public:
  /// Makes the runner on the engine thread (arrays are tied to their thread).
  using RunnerFactory = std::function<Result<std::unique_ptr<Runner>>()>;
  /// Called on the engine thread once a step with everything that step produced; must not block.
  using StepSink = std::function<void(std::vector<GenerationEvent>&&)>;

  /// Returns when the runner is made; its error otherwise. kConfig when a limit is out of range.
  /// `tokenizer` outlives the engine.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> start(const RunnerFactory& make_runner,
                                                             const Tokenizer& tokenizer,
                                                             const EngineLimits& limits,
                                                             StepSink sink);
  /// The same with text made by anything that makes text: tests need no vocabulary.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> start(const RunnerFactory& make_runner,
                                                             DetokenizerFactory make_detokenizer,
                                                             const EngineLimits& limits,
                                                             StepSink sink);
  /// Stops the thread after the step under way; unfinished sequences get no further event. Not from
  /// the sink.
  virtual ~Engine() = default;

  [[nodiscard]] virtual const ModelInfo& info() const = 0;
  /// Queues a request of `ids.size()` choices, each a sequence with events of its own under a fresh
  /// id; the k-th draws with `sampling.choice + k`. The prompt is prefilled once for all of them.
  /// kOverloaded when they are more than what `sequences_max + waiting_max` leaves, or when the
  /// first token would come after `first_token_max`,
  /// kContextLengthExceeded when the prompt leaves no room for one token, kOutOfMemory when it
  /// could never fit into the blocks, kInvalidRequest naming the field when a token id is outside
  /// the vocabulary or `resume` leaves nothing to generate; then none is queued. The caller chooses
  /// `ids`, unique in the process, so that it can route events that arrive before this returns.
  [[nodiscard]] virtual Result<void> submit(std::span<const SequenceId> ids,
                                            GenerationRequest request) = 0;
  [[nodiscard]] Result<void> submit(SequenceId id, GenerationRequest request) {
    return submit({&id, 1}, std::move(request));
  }
  /// Ends a sequence without further events, at the latest after the step under way. Unknown ids
  /// are ignored (it may just have finished).
  virtual void cancel(SequenceId id) = 0;
  [[nodiscard]] virtual EngineStats stats() const = 0;
};

}  // namespace mlxs::engine
