#include "engine/engine.h"

#include "engine/sample/sampler.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_engine.h"
#include "engine/testing/fake_runner.h"
#include "engine/text/text_fixture.h"
#include "engine/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <limits>
#include <map>
#include <random>
#include <semaphore>
#include <set>
#include <thread>

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::string text_of(std::vector<TokenId> ids) {
  std::string text;
  for (const TokenId id : ids)
    if (id != kFakeEndToken) text.push_back(static_cast<char>(id));
  return text;
}

/// Holds every run until it is let through.
class Gate {
 public:
  std::function<Result<void>(std::uint64_t, const Step&)> hook() {
    return [this](std::uint64_t, const Step&) -> Result<void> {
      entered_.release();
      passes_.acquire();
      return {};
    };
  }
  void await_run() { entered_.acquire(); }  ///< A run has begun and waits.
  void pass(int runs = 1) { passes_.release(runs); }
  void open() { passes_.release(100000); }

 private:
  std::counting_semaphore<> entered_{0};
  std::counting_semaphore<> passes_{0};
};

TEST(Engine, AnswersAsTheModelDoesAlone) {
  EventLog log;
  const auto engine = start_engine(log);
  const GenerationRequest request = request_of("What is the capital of France?", 40);

  ASSERT_TRUE(engine->submit(SequenceId{1}, request));
  const GenerationEvent answer = log.finished(SequenceId{1});

  const auto expected = answer_alone(request);
  EXPECT_EQ(answer.token_ids, expected);
  EXPECT_EQ(answer.text, text_of(expected));
  EXPECT_EQ(answer.prompt_tokens, 30);
  EXPECT_EQ(answer.completion_tokens, static_cast<int>(expected.size()));
}

TEST(Engine, GivesEachChoiceOfARequestTheAnswerItsChoiceNumberDraws) {
  EventLog log;
  const auto engine = start_engine(log);
  GenerationRequest request = request_of("Tell me a story.", 30);
  request.sampling.temperature = 1;
  request.sampling.seed = 11;
  const std::vector<SequenceId> ids{SequenceId{5}, SequenceId{6}, SequenceId{9}};

  ASSERT_TRUE(engine->submit(ids, request));

  std::set<std::vector<TokenId>> different;
  for (const SequenceId id : ids) {
    const GenerationEvent answer = log.finished(id);
    EXPECT_EQ(answer.token_ids, answer_alone(request));
    EXPECT_EQ(answer.prompt_tokens, 16);
    different.insert(answer.token_ids);
    ++request.sampling.choice;
  }
  EXPECT_EQ(different.size(), 3u);
}

TEST(Engine, RefusesAllChoicesOfARequestOrNone) {
  EventLog log;
  const auto engine = start_engine(log, {}, {.sequences_max = 2, .waiting_max = 1});
  const std::vector<SequenceId> ids{SequenceId{1}, SequenceId{2}, SequenceId{3}, SequenceId{4}};

  const auto refused = engine->submit(ids, request_of("p"));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(engine->stats().waiting, 0);
}

// R-ENG-2, R-ENG-3: batching, chunked prefill, preemption and seeds change no answer.
TEST(Engine, GivesAHundredSequencesAtOnceTheAnswersTheyGetAlone) {
  EventLog log;
  // Few blocks, so that rows are preempted, and few tokens a step, so that prompts are chunked.
  const auto engine = start_engine(
      log, {.blocks_total = 60}, {.sequences_max = 16, .waiting_max = 100, .step_tokens_max = 24});
  std::map<SequenceId, GenerationRequest> requests;
  for (int k = 0; k < 100; ++k) {
    GenerationRequest request = request_of(
        std::string(1 + (k * 7) % 50, static_cast<char>('a' + k % 26)) + std::to_string(k),
        5 + k % 60);
    request.sampling.temperature = k % 2 == 0 ? 0.0f : 1.0f;
    request.sampling.seed = static_cast<std::uint64_t>(k % 5);
    request.sampling.top_k = k % 3 == 0 ? 10 : 0;
    request.sampling.top_p = k % 4 == 0 ? 0.8f : 1.0f;
    requests.emplace(SequenceId{static_cast<std::uint64_t>(k)}, request);
  }

  for (const auto& [id, request] : requests) ASSERT_TRUE(engine->submit(id, request));

  for (const auto& [id, request] : requests)
    EXPECT_EQ(log.finished(id).token_ids, answer_alone(request));
  const EngineStats stats = engine->stats();
  EXPECT_GT(stats.preemptions, 0u);
  EXPECT_EQ(stats.finished, 100u);
  EXPECT_EQ(stats.blocks_free, stats.blocks_total);
}

// R-ENG-3
TEST(Engine, KeepsTenThousandConcurrentSequencesApart) {
  constexpr std::uint64_t kSequences = 10'000;
  std::vector<std::vector<TokenId>> answers(kSequences);
  std::uint64_t unfinished = kSequences;
  std::promise<void> done;
  const auto engine = Engine::start(
      [&]() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{
            std::make_unique<FakeRunner>(FakeRunner::Options{.blocks_total = 150})};
      },
      make_byte_detokenizer,
      {.sequences_max = 64, .waiting_max = static_cast<int>(kSequences), .step_tokens_max = 200},
      [&](std::vector<GenerationEvent>&& events) {
        for (const GenerationEvent& event : events) {
          auto& answer = answers[static_cast<std::size_t>(event.sequence)];
          answer.insert(answer.end(), event.token_ids.begin(), event.token_ids.end());
          if (event.finish && --unfinished == 0) done.set_value();
        }
      });
  std::mt19937 random{1};
  std::vector<GenerationRequest> requests;
  for (std::uint64_t k = 0; k < kSequences; ++k) {
    requests.push_back(request_of(std::to_string(k) + std::string(random() % 60, 'x'),
                                  static_cast<int>(1 + random() % 60)));
    requests.back().sampling.temperature = random() % 2 == 0 ? 0.0f : 0.8f;
    requests.back().sampling.seed = random() % 3;
  }

  for (std::uint64_t k = 0; k < kSequences; ++k)
    ASSERT_TRUE((*engine)->submit(SequenceId{k}, requests[k]));
  done.get_future().wait();

  for (std::uint64_t k = 0; k < kSequences; ++k)
    ASSERT_EQ(answers[k], answer_alone(requests[k])) << "sequence " << k;
  EXPECT_GT((*engine)->stats().preemptions, 0u);
}

TEST(Engine, InterleavesSixteenSequences) {
  EventLog log;
  Gate gate;
  FakeRunner::Options options = answers_with(1, std::string(20, 'x'));
  options.before_run = gate.hook();
  const auto engine = start_engine(log, options);
  for (std::uint64_t k = 0; k < 16; ++k)
    ASSERT_TRUE(engine->submit(SequenceId{k}, request_of("p")));

  gate.open();
  for (std::uint64_t k = 0; k < 16; ++k) (void)log.finished(SequenceId{k});

  // Everyone got a token before anyone got the third last one.
  std::set<SequenceId> heard;
  std::map<SequenceId, int> tokens;
  for (const GenerationEvent& event : log.all()) {
    heard.insert(event.sequence);
    if (++tokens[event.sequence] == 18) {
      EXPECT_EQ(heard.size(), 16u);
    }
  }
}

TEST(Engine, DeliversAStepInOneCallOfTheSink) {
  std::atomic<int> largest = 0;
  std::promise<void> done;
  std::atomic<int> finished = 0;
  Gate gate;
  FakeRunner::Options options = answers_with(1, "abc");
  options.before_run = gate.hook();
  const auto engine = Engine::start(
      [&]() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{std::make_unique<FakeRunner>(options)};
      },
      make_byte_detokenizer,
      EngineLimits{},
      [&](std::vector<GenerationEvent>&& events) {
        largest = std::max<int>(largest, static_cast<int>(events.size()));
        for (const auto& event : events)
          if (event.finish && ++finished == 5) done.set_value();
      });
  ASSERT_TRUE((*engine)->submit(SequenceId{0}, request_of("p")));
  gate.await_run();
  for (std::uint64_t k = 1; k < 5; ++k)
    ASSERT_TRUE((*engine)->submit(SequenceId{k}, request_of("p")));

  gate.open();
  done.get_future().wait();

  EXPECT_EQ(largest, 5);
}

TEST(Engine, ACancelledSequenceIsSilentAndItsBlocksAreFree) {
  EventLog log;
  Gate gate;
  FakeRunner::Options options = answers_with(1, std::string(400, 'x'));
  options.before_run = gate.hook();
  const auto engine = start_engine(log, options);
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("p", 400)));
  gate.await_run();
  gate.pass();
  gate.await_run();  // the second step is under way
  EXPECT_LT(engine->stats().blocks_free, engine->stats().blocks_total);

  engine->cancel(SequenceId{1});
  ASSERT_TRUE(engine->submit(SequenceId{2}, request_of("p", 1)));
  gate.open();
  (void)log.finished(SequenceId{2});

  const auto events = log.all();
  EXPECT_LE(std::ranges::count(events, SequenceId{1}, &GenerationEvent::sequence), 2);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.cancelled, 1u);
  EXPECT_EQ(stats.blocks_free, stats.blocks_total);
  EXPECT_EQ(stats.running + stats.waiting, 0);
}

TEST(Engine, IgnoresACancelOfWhatItDoesNotHave) {
  EventLog log;
  const auto engine = start_engine(log);

  engine->cancel(SequenceId{7});
  ASSERT_TRUE(engine->submit(SequenceId{7}, request_of("p", 1)));

  EXPECT_EQ(log.finished(SequenceId{7}).completion_tokens, 1);
  EXPECT_EQ(engine->stats().cancelled, 0u);
}

TEST(Engine, RefusesMoreThanMayWait) {
  EventLog log;
  Gate gate;
  FakeRunner::Options options = answers_with(1, "abc");
  options.before_run = gate.hook();
  const auto engine = start_engine(log, options, {.sequences_max = 2, .waiting_max = 3});
  for (std::uint64_t k = 0; k < 5; ++k) ASSERT_TRUE(engine->submit(SequenceId{k}, request_of("p")));

  const auto sixth = engine->submit(SequenceId{5}, request_of("p"));
  ASSERT_FALSE(sixth);
  EXPECT_EQ(sixth.error().code, ErrorCode::kOverloaded);

  gate.open();
  for (std::uint64_t k = 0; k < 5; ++k) (void)log.finished(SequenceId{k});
  EXPECT_TRUE(engine->submit(SequenceId{6}, request_of("p")));
}

TEST(Engine, RefusesAPromptThatLeavesNoRoomInTheContext) {
  EventLog log;
  const auto engine = start_engine(log, {.context_tokens_max = 16});

  const auto refused = engine->submit(SequenceId{1}, request_of(std::string(16, 'p')));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kContextLengthExceeded);
  EXPECT_THAT(
      refused.error().message,
      HasSubstr("This model's maximum context length is 16 tokens. However, you requested"));
}

TEST(Engine, RefusesAPromptThatTheBlocksCannotHold) {
  EventLog log;
  const auto engine = start_engine(log, {.block_tokens = 4, .blocks_total = 4});

  const auto refused = engine->submit(SequenceId{1}, request_of(std::string(17, 'p')));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
}

TEST(Engine, RefusesTokensThatTheModelDoesNotHave) {
  EventLog log;
  const auto engine = start_engine(log);
  for (const TokenId token : {-1, kFakeVocabSize}) {
    GenerationRequest request = request_of("p");
    request.prompt.push_back(token);

    const auto refused = engine->submit(SequenceId{1}, request);

    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
  }
}

TEST(Engine, CutsACompletionToWhatTheContextLeaves) {
  EventLog log;
  FakeRunner::Options options = answers_with(6, std::string(100, 'x'));
  options.context_tokens_max = 16;
  const auto engine = start_engine(log, options);

  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("prompt", 1000)));
  const GenerationEvent answer = log.finished(SequenceId{1});

  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.completion_tokens, 10);
  EXPECT_EQ(answer.text, std::string(10, 'x'));
}

TEST(Engine, AStepThatFailsOnceChangesNoAnswer) {
  EventLog log;
  const auto engine =
      start_engine(log, {.before_run = [](std::uint64_t run, const Step&) -> Result<void> {
                     if (run % 3 == 1) return fail(ErrorCode::kInternal, "out of luck");
                     return {};
                   }});
  const GenerationRequest request = request_of("hello", 20);

  ASSERT_TRUE(engine->submit(SequenceId{1}, request));

  EXPECT_EQ(log.finished(SequenceId{1}).token_ids, answer_alone(request));
  EXPECT_EQ(engine->stats().failed_steps, 0u);
}

TEST(Engine, AStepThatFailsTwiceFailsItsSequencesAndTheEngineGoesOn) {
  EventLog log;
  std::atomic<bool> failing = true;
  const auto engine =
      start_engine(log, {.before_run = [&](std::uint64_t, const Step&) -> Result<void> {
                     if (failing) return fail(ErrorCode::kInternal, "out of luck");
                     return {};
                   }});
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("hello")));
  const GenerationEvent failed = log.finished(SequenceId{1});
  EXPECT_EQ(failed.finish, FinishReason::kError);
  EXPECT_EQ(failed.error->code, ErrorCode::kInternal);
  EXPECT_EQ(failed.error->message, "out of luck");
  EXPECT_EQ(engine->stats().failed_steps, 1u);
  EXPECT_EQ(engine->stats().failed, 1u);
  EXPECT_FALSE(engine->stats().broken);

  failing = false;
  const GenerationRequest request = request_of("world");
  ASSERT_TRUE(engine->submit(SequenceId{2}, request));

  EXPECT_EQ(log.finished(SequenceId{2}).token_ids, answer_alone(request));
  EXPECT_EQ(engine->stats().blocks_free, engine->stats().blocks_total);
}

TEST(Engine, IsBrokenAfterTwoFailedStepsWithinAMinute) {
  EventLog log;
  const auto engine =
      start_engine(log, {.before_run = [](std::uint64_t, const Step&) -> Result<void> {
                     return fail(ErrorCode::kInternal, "out of luck");
                   }});

  for (const auto id : {SequenceId{1}, SequenceId{2}}) {
    EXPECT_FALSE(engine->stats().broken);
    ASSERT_TRUE(engine->submit(id, request_of("hello")));
    EXPECT_EQ(log.finished(id).finish, FinishReason::kError);
  }

  EXPECT_TRUE(engine->stats().broken);
}

TEST(Engine, ARowWithBrokenLogitsFailsAlone) {
  EventLog log;
  Gate gate;
  std::atomic<bool> spoil = false;
  const auto engine = start_engine(
      log, {.before_run = gate.hook(), .after_run = [&](std::uint64_t, std::span<float> logits) {
              if (spoil.exchange(false)) logits[0] = std::numeric_limits<float>::quiet_NaN();
            }});
  const GenerationRequest request = request_of("second");
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("first")));
  gate.await_run();
  ASSERT_TRUE(engine->submit(SequenceId{2}, request));
  gate.pass();
  gate.await_run();  // both take part in this one

  spoil = true;
  gate.open();

  EXPECT_EQ(log.finished(SequenceId{1}).finish, FinishReason::kError);
  EXPECT_EQ(log.finished(SequenceId{2}).token_ids, answer_alone(request));
}

TEST(Engine, EndsASequenceWhoseDeadlinePassed) {
  EventLog log;
  Gate gate;
  const auto engine = start_engine(log, {.before_run = gate.hook()});
  gate.open();
  GenerationRequest request = request_of("hello");
  request.deadline = Deadline::after(-1ms);

  ASSERT_TRUE(engine->submit(SequenceId{1}, request));
  const GenerationEvent ended = log.finished(SequenceId{1});

  EXPECT_EQ(ended.finish, FinishReason::kError);
  EXPECT_EQ(ended.error->code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(engine->stats().failed, 1u);
}

TEST(Engine, ADeadlineEndsARunningSequenceAfterItsStep) {
  EventLog log;
  const Deadline deadline = Deadline::after(5ms);
  FakeRunner::Options options = answers_with(1, std::string(400, 'x'));
  options.before_run = [&](std::uint64_t run, const Step&) -> Result<void> {
    if (run == 3) std::this_thread::sleep_until(deadline.when());  // the step takes that long
    return {};
  };
  const auto engine = start_engine(log, options);
  GenerationRequest request = request_of("p", 400);
  request.deadline = deadline;

  ASSERT_TRUE(engine->submit(SequenceId{1}, request));
  const GenerationEvent ended = log.finished(SequenceId{1});

  EXPECT_EQ(ended.error->code, ErrorCode::kDeadlineExceeded);
  EXPECT_LE(ended.completion_tokens, 4);
  EXPECT_EQ(ended.text, std::string(static_cast<std::size_t>(ended.completion_tokens), 'x'));
}

TEST(Engine, EndsBeforeAStopStringThatSeveralTokensSpell) {
  EventLog log;
  const auto engine = start_engine(log, answers_with(1, "one END two"));
  GenerationRequest request = request_of("p");
  request.stop = {"END"};

  ASSERT_TRUE(engine->submit(SequenceId{1}, request));
  const GenerationEvent answer = log.finished(SequenceId{1});

  EXPECT_EQ(answer.text, "one ");
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.completion_tokens, 7);
  EXPECT_EQ(answer.token_ids.size(), 7u);
}

TEST(Engine, NeverSplitsACharacterThatSeveralTokensSpell) {
  EventLog log;
  const auto engine = start_engine(log, answers_with(1, "a€🙂b"));

  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("p")));
  EXPECT_EQ(log.finished(SequenceId{1}).text, "a€🙂b");

  std::vector<std::string> pieces;
  for (const GenerationEvent& event : log.all())
    if (!event.text.empty()) pieces.push_back(event.text);
  EXPECT_THAT(pieces, ::testing::ElementsAre("a", "€", "🙂", "b"));
}

TEST(Engine, MovesItsStats) {
  EventLog log;
  Gate gate;
  FakeRunner::Options options = answers_with(3, "ab");
  options.before_run = gate.hook();
  const auto engine = start_engine(log, options, {.sequences_max = 1});
  EXPECT_EQ(engine->stats().steps, 0u);
  EXPECT_EQ(engine->stats().stalled, 0ms);

  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("one")));
  gate.await_run();
  ASSERT_TRUE(engine->submit(SequenceId{2}, request_of("two")));
  std::this_thread::sleep_for(2ms);  // time has to pass for `stalled` to count it
  const EngineStats during = engine->stats();
  EXPECT_EQ(during.running, 1);
  EXPECT_EQ(during.waiting, 1);
  EXPECT_EQ(during.queued_prefill_tokens, 6);
  EXPECT_LT(during.blocks_free, during.blocks_total);
  EXPECT_GE(during.stalled, 1ms);

  gate.open();
  (void)log.finished(SequenceId{1});
  (void)log.finished(SequenceId{2});
  const EngineStats after = engine->stats();
  EXPECT_EQ(after.steps, 6u);  // "a", "b" and the end, twice
  EXPECT_EQ(after.running + after.waiting, 0);
  EXPECT_EQ(after.queued_prefill_tokens, 0);
  EXPECT_EQ(after.prompt_tokens, 6u);
  EXPECT_EQ(after.completion_tokens, 6u);
  EXPECT_EQ(after.finished, 2u);
  EXPECT_GT(after.step_seconds_p50, 0);
  EXPECT_GE(after.step_seconds_p95, after.step_seconds_p50);
  EXPECT_EQ(after.stalled, 0ms);
}

TEST(Engine, SpeaksWithARealTokenizer) {
  const auto tokenizer = Tokenizer::from_gguf(tiny_vocabulary());  // ids 0 to 255 are bytes there
  ASSERT_TRUE(tokenizer);
  EventLog log;
  const auto engine = Engine::start(
      []() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{std::make_unique<FakeRunner>(answers_with(1, "grüß €5"))};
      },
      **tokenizer,
      EngineLimits{},
      log.sink());

  ASSERT_TRUE((*engine)->submit(SequenceId{1}, request_of("p")));

  EXPECT_EQ(log.finished(SequenceId{1}).text, "grüß €5");
}

TEST(Engine, HandsOnWhyTheRunnerCouldNotBeMade) {
  const auto engine = Engine::start(
      []() -> Result<std::unique_ptr<Runner>> {
        return fail(ErrorCode::kCorruptFile, "no such tensor");
      },
      make_byte_detokenizer,
      EngineLimits{},
      [](auto&&) {});

  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kCorruptFile);
}

TEST(Engine, RefusesLimitsThatMakeNoSense) {
  EventLog log;
  const auto engine = Engine::start(
      []() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{std::make_unique<FakeRunner>(FakeRunner::Options{})};
      },
      make_byte_detokenizer,
      {.step_tokens_max = 1},
      log.sink());

  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kConfig);
  EXPECT_EQ(engine.error().param, "step_tokens_max");
}

TEST(Engine, StopsWithWorkLeftWithoutFurtherEvents) {
  EventLog log;
  {
    const auto engine = start_engine(log, answers_with(1, std::string(400, 'x')));
    for (std::uint64_t k = 0; k < 50; ++k)
      ASSERT_TRUE(engine->submit(SequenceId{k}, request_of("p", 400)));
  }
  EXPECT_LT(log.all().size(), 50u * 400u);
}

TEST(Engine, TakesSubmitsAndCancelsFromManyThreads) {
  EventLog log;
  const auto engine =
      start_engine(log, {.blocks_total = 60}, {.sequences_max = 8, .waiting_max = 1000});
  std::vector<std::thread> clients;
  for (std::uint64_t t = 0; t < 4; ++t)
    clients.emplace_back([&, t] {
      for (std::uint64_t k = 0; k < 50; ++k) {
        const SequenceId id{t * 1000 + k};
        EXPECT_TRUE(engine->submit(id, request_of("client " + std::to_string(t * 1000 + k), 20)));
        if (k % 3 == 0) engine->cancel(id);
        (void)engine->stats();
      }
    });
  for (auto& client : clients) client.join();

  for (std::uint64_t t = 0; t < 4; ++t)
    for (std::uint64_t k = 0; k < 50; ++k) {
      if (k % 3 == 0) continue;
      EXPECT_EQ(log.finished(SequenceId{t * 1000 + k}).token_ids,
                answer_alone(request_of("client " + std::to_string(t * 1000 + k), 20)));
    }
}

}  // namespace
}  // namespace mlxs::engine
