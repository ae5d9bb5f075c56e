#include "engine/engine.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_engine.h"
#include "engine/testing/fake_runner.h"

#include <gtest/gtest.h>

#include <chrono>
#include <semaphore>
#include <span>
#include <thread>
#include <vector>

namespace mlxs::engine {
namespace {

using namespace std::chrono_literals;

// R-ENG-5: a first token's ceiling holds for what waits for a row, too; not for an answer that
// goes on.
TEST(Engine, RefusesWhatHasNoRowByTheTimeItsFirstTokenIsDue) {
  EventLog log;
  std::counting_semaphore<> runs{0};
  std::counting_semaphore<> passes{0};
  FakeRunner::Options options;
  options.next = [](std::span<const TokenId>) { return TokenId{'x'}; };
  options.before_run = [&](std::uint64_t, const Step&) -> Result<void> {
    runs.release();
    passes.acquire();
    return {};
  };
  const auto engine =
      start_engine(log, options, {.sequences_max = 1, .first_token_max = Milliseconds{20}});
  ASSERT_TRUE(engine->submit(SequenceId{1}, request_of("p", 3)));
  runs.acquire();
  ASSERT_TRUE(engine->submit(SequenceId{2}, request_of("q")));
  GenerationRequest resumed = request_of("r", 2);
  resumed.resume = {TokenId{'x'}};
  ASSERT_TRUE(engine->submit(SequenceId{3}, resumed));
  std::this_thread::sleep_for(20ms);  // so that it has waited when the engine gets on
  passes.release(100);

  const GenerationEvent refused = log.finished(SequenceId{2});
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code, ErrorCode::kOverloaded);
  EXPECT_EQ(refused.completion_tokens, 0);
  EXPECT_EQ(log.finished(SequenceId{1}).completion_tokens, 3);
  EXPECT_EQ(log.finished(SequenceId{3}).completion_tokens, 2);
  EXPECT_EQ(engine->stats().failed, 1u);
}

}  // namespace
}  // namespace mlxs::engine
