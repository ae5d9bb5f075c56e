#include "worker/sampling.h"

#include "base/ids.h"
#include "worker/encode.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;

using Breakers = std::shared_ptr<const std::vector<engine::TokenId>>;

// Lists of breaker strings whose tokens are kept: clients send the same ones again and again.
constexpr std::size_t kBreakerListsMax = 16;

const std::vector<std::string>& default_breakers() {
  static const std::vector<std::string> breakers{"\n", ":", "\"", "*"};  // llama.cpp's
  return breakers;
}

Result<Codec::TokenIds> breaker_tokens(const Codec& codec,
                                       int vocab_size,
                                       const std::vector<std::string>& breakers) {
  Codec::TokenIds tokens;
  for (engine::TokenId id = 0; id < vocab_size; ++id) {
    const std::string text = codec.token_bytes(id);
    const auto holds = [&](const std::string& breaker) {
      return text.find(breaker) != std::string::npos;
    };
    if (std::ranges::any_of(breakers, holds)) tokens.push_back(id);
  }
  for (const std::string& breaker : breakers) {
    // After a letter, so that a tokenizer which adds a space to the beginning adds it there.
    const auto spelled = codec.encode("a" + breaker, false);
    if (!spelled) return spelled.error();
    if (!spelled->empty()) tokens.push_back(spelled->back());
  }
  std::ranges::sort(tokens);
  const auto twice = std::ranges::unique(tokens);
  tokens.erase(twice.begin(), twice.end());
  return tokens;
}

asio::awaitable<Result<Breakers>> breakers_of(Context& context, std::vector<std::string> breakers) {
  if (const auto known = context.dry_breakers.find(breakers); known != context.dry_breakers.end())
    co_return known->second;
  // It looks at the whole vocabulary, which takes some milliseconds.
  EncodeWork work = [&codec = context.model.codec(),
                     vocab_size = context.model.engine().info().vocab_size,
                     breakers] { return breaker_tokens(codec, vocab_size, breakers); };
  auto tokens = co_await on_text_pool(context, std::move(work));
  if (!tokens) co_return std::move(tokens).error();
  auto kept = std::make_shared<const std::vector<engine::TokenId>>(std::move(*tokens));
  if (context.dry_breakers.size() >= kBreakerListsMax) context.dry_breakers.clear();
  context.dry_breakers.insert_or_assign(std::move(breakers), kept);
  co_return kept;
}

}  // namespace

asio::awaitable<Result<engine::SamplingParams>> sampling_of(Context& context,
                                                            const api::NativeRequest& request) {
  engine::SamplingParams sampling = context.model.engine().info().default_sampling;
  const auto take = [](auto& value, const auto& given) { value = given.value_or(value); };
  take(sampling.temperature, request.temperature);
  take(sampling.top_p, request.top_p);
  take(sampling.top_k, request.top_k);
  take(sampling.min_p, request.min_p);
  take(sampling.repetition_penalty, request.repetition_penalty);
  take(sampling.frequency_penalty, request.frequency_penalty);
  take(sampling.presence_penalty, request.presence_penalty);
  take(sampling.xtc_probability, request.xtc_probability);
  take(sampling.xtc_threshold, request.xtc_threshold);
  take(sampling.dry.multiplier, request.dry.multiplier);
  take(sampling.dry.base, request.dry.base);
  take(sampling.dry.allowed_length, request.dry.allowed_length);
  take(sampling.dry.last_n, request.dry.penalty_last_n);
  for (const auto& [token, bias] : request.logit_bias) sampling.bias.push_back({token, bias});
  if (request.seed)
    sampling.seed = *request.seed;
  else
    sampling.seed = request.drawn_seed ? *request.drawn_seed : random_u64();
  if (sampling.dry.multiplier == 0) co_return sampling;
  auto breakers =
      co_await breakers_of(context, request.dry.sequence_breakers.value_or(default_breakers()));
  if (!breakers) co_return std::move(breakers).error();
  sampling.dry.breakers = std::move(*breakers);
  co_return sampling;
}

}  // namespace mlxs::worker
