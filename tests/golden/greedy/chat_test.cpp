// From a chat message to an answer's text, with everything that a checkpoint brings.

#include "engine/model_runner.h"
#include "tests/golden/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace mlxs::engine::golden {
namespace {

TEST(Chat, CapitalOfFranceIsParisInFloat32) {
  ModelOptions options;
  options.source = MLXS_SOURCE_DIR "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  options.compute = Compute::kFloat32;
  options.kv_bytes = std::uint64_t{64} << 20;
  const auto text = load_text(options);
  ASSERT_TRUE(text) << text.error().message;
  ASSERT_NE(text->chat_template, nullptr);
  const auto runner = load_runner(options, {});
  ASSERT_TRUE(runner) << runner.error().message;
  const auto prompt = text->chat_template->render(
      {.messages_json = R"([{"role": "user", "content": "What is the capital of France?"}])"});
  ASSERT_TRUE(prompt) << prompt.error().message;
  const auto ids = text->tokenizer->encode(*prompt, false);
  ASSERT_TRUE(ids) << ids.error().message;

  Driver driver(**runner);
  Row row = driver.make_row(*ids, 128);
  std::vector<TokenId> answer;
  const auto& ends = (*runner)->info().end_tokens;
  const auto ended = [&] {
    return !answer.empty() && std::ranges::find(ends, answer.back()) != ends.end();
  };
  while (!ended() && answer.size() < 32) {
    driver.step({&row}, 512, [&](Row& at, std::span<const float> logits) {
      answer.push_back(best_token(logits));
      at.tokens.push_back(answer.back());
    });
  }

  EXPECT_TRUE(ended());
  EXPECT_EQ(text->tokenizer->decode(answer, true).value(), "The capital of France is Paris.");
}

}  // namespace
}  // namespace mlxs::engine::golden
