#pragma once

#include "engine/engine.h"
#include "engine/sample/sampler.h"
#include "engine/testing/event_log.h"
#include "engine/testing/fake_runner.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::engine {

inline std::unique_ptr<Engine> start_engine(EventLog& log,
                                            const FakeRunner::Options& options = {},
                                            const EngineLimits& limits = {}) {
  auto engine = Engine::start(
      [&]() -> Result<std::unique_ptr<Runner>> {
        return std::unique_ptr<Runner>{std::make_unique<FakeRunner>(options)};
      },
      make_byte_detokenizer,
      limits,
      log.sink());
  return std::move(engine).value();
}

inline GenerationRequest request_of(std::string_view prompt, int completion_tokens_max = 32) {
  GenerationRequest request;
  request.prompt = byte_tokens(prompt);
  request.completion_tokens_max = completion_tokens_max;
  request.sampling.temperature = 0;
  return request;
}

/// The answer the unscripted fake model gives to `request`, computed without an engine.
inline std::vector<TokenId> answer_alone(const GenerationRequest& request) {
  Sampler sampler;
  std::vector<TokenId> history = request.prompt;
  std::vector<TokenId> answer;
  while (static_cast<int>(answer.size()) < request.completion_tokens_max) {
    const auto token =
        sampler.sample(FakeRunner::logits_after(history), request.sampling, history.size());
    history.push_back(token.value());
    answer.push_back(token.value());
    if (*token == kFakeEndToken) break;
  }
  return answer;
}

/// A model that answers every prompt with `text`, then the end token.
inline FakeRunner::Options answers_with(std::size_t prompt_tokens, std::string text) {
  FakeRunner::Options options;
  options.next = [prompt_tokens, text = std::move(text)](std::span<const TokenId> history) {
    const std::size_t at = history.size() - prompt_tokens;
    return at < text.size() ? TokenId{static_cast<unsigned char>(text[at])} : kFakeEndToken;
  };
  return options;
}

}  // namespace mlxs::engine
