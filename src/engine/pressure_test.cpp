// R-ENG-4 through a real model on a device that takes next to nothing: prefixes go first, then rows
// are put back, then requests are refused; nothing aborts, and every answer is whole.

#include "engine/engine.h"
#include "engine/model_runner.h"
#include "engine/testing/event_log.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace mlxs::engine {
namespace {

class NoText final : public Detokenizer {
 public:
  Result<std::string> push(TokenId) override { return std::string{}; }
  Result<std::string> finish() override { return std::string{}; }
};

constexpr int kBlocks = 6;
constexpr int kPositions = kBlocks * 32;

GenerationRequest request_of(unsigned seed, int prompt_tokens, int completion_tokens) {
  std::mt19937 random{seed};
  GenerationRequest request;
  for (int k = 0; k < prompt_tokens; ++k)
    request.prompt.push_back(static_cast<TokenId>(random() % 128));
  request.completion_tokens_max = completion_tokens;
  request.ignore_end_tokens = true;
  return request;
}

TEST(Pressure, EvictsThenPreemptsThenRefusesAndNeverAborts) {
  EventLog log;
  const auto make = []() -> Result<std::unique_ptr<Runner>> {
    ModelOptions options;
    options.source = std::filesystem::path{MLXS_SOURCE_DIR} / "tests/golden/models/llama_f32";
    options.compute = Compute::kFloat32;
    constexpr std::uint64_t kKeysOfABlock = 32 * 2 * 16 * sizeof(float);
    options.device = DeviceLimits{
        .bytes = std::uint64_t{1} << 30, .buffers = 4096, .buffer_bytes = kBlocks * kKeysOfABlock};
    return load_runner(options, {});
  };
  const auto engine = Engine::start(
                          make,
                          [] { return std::make_unique<NoText>(); },
                          {.sequences_max = 8, .waiting_max = 4},
                          log.sink())
                          .value();
  ASSERT_EQ(engine->info().blocks_total, kBlocks);
  std::uint64_t id = 0;
  const auto whole = [&](SequenceId sequence, int completion_tokens) {
    const GenerationEvent last = log.finished(sequence);
    EXPECT_EQ(last.finish, FinishReason::kLength);
    EXPECT_EQ(last.completion_tokens, completion_tokens);
  };

  ASSERT_TRUE(engine->submit(SequenceId{++id}, request_of(1, 100, 4)));
  whole(SequenceId{id}, 4);
  EXPECT_GE(engine->stats().blocks_cached, 3);
  ASSERT_TRUE(engine->submit(SequenceId{++id}, request_of(2, kPositions - 31, 32)));
  whole(SequenceId{id}, 32);  // needed what the first one's prefix was kept in
  EXPECT_EQ(engine->stats().preemptions, 0U);

  std::vector<SequenceId> together;
  for (int k = 0; k < 5; ++k) together.push_back(SequenceId{++id});
  ASSERT_TRUE(engine->submit(together, request_of(5, 20, 100)));
  for (const SequenceId sequence : together) whole(sequence, 100);
  EXPECT_GT(engine->stats().preemptions, 0U);

  const auto never = engine->submit(SequenceId{++id}, request_of(3, kPositions + 1, 1));
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().code, ErrorCode::kOutOfMemory);
  std::vector<SequenceId> many;
  for (int k = 0; k < 13; ++k) many.push_back(SequenceId{++id});
  const auto too_many = engine->submit(many, request_of(4, 10, 1));
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(engine->stats().failed, 0U);
}

}  // namespace
}  // namespace mlxs::engine
