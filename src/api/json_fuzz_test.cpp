// Mutated requests and chunks: whatever arrives, parsing ends in a value or an error that can be
// rendered. Seeds are fixed, so a failure repeats.

#include "api/chunk.h"
#include "api/errors.h"
#include "api/request.h"
#include "base/utf8.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <string_view>

namespace mlxs::api {
namespace {

constexpr std::array<std::string_view, 14> kPieces{"null",
                                                   "true",
                                                   "-1",
                                                   "1e999",
                                                   "\"x\"",
                                                   "[]",
                                                   "{}",
                                                   "[[",
                                                   "\\ud800",
                                                   "\xff",
                                                   "\"",
                                                   ",",
                                                   ":",
                                                   "é"};

/// One to four edits: a byte flipped, a range dropped or doubled, a piece of JSON put in.
std::string mutated(std::string text, std::mt19937_64& random) {
  const auto below = [&](std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>{0, bound - 1}(random);
  };
  for (std::size_t edits = 1 + below(4); edits > 0 && !text.empty(); --edits) {
    const std::size_t at = below(text.size());
    const std::size_t length = 1 + below(8);
    switch (below(4)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      default:
        text.replace(at, length, kPieces[below(kPieces.size())]);
        break;
    }
  }
  return text;
}

void expect_renders(const Error& error) {
  const auto response = error_response(error);
  EXPECT_GE(response.status, 400);
  EXPECT_TRUE(utf8_valid(response.body)) << response.body;
}

TEST(JsonFuzz, RequestsParseOrFail) {
  constexpr std::string_view kChat =
      R"({"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"hé\n"}]},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}],"temperature":0.5,"top_p":1,"seed":-4,"stop":["a"],"stream":true,"stream_options":{"include_usage":true},"metadata":{"k":"v"},"logit_bias":{},"mlxs":{"seed":1}})";
  constexpr std::string_view kCompletion =
      R"({"model":"m","prompt":[[1,2,3]],"max_tokens":5,"echo":false,"n":1,"best_of":1,"suffix":null})";
  std::mt19937_64 random{7};
  int accepted = 0;
  for (int round = 0; round < 40'000; ++round) {
    const Surface surface = round % 2 == 0 ? Surface::kChat : Surface::kCompletions;
    const std::string text{surface == Surface::kChat ? kChat : kCompletion};
    const auto envelope = parse_envelope(surface, mutated(text, random));
    if (!envelope) {
      expect_renders(envelope.error());
      continue;
    }
    const auto request = parse_native(*envelope);
    if (!request) expect_renders(request.error());
    accepted += request.has_value();
  }
  EXPECT_GT(accepted, 0);
}

TEST(JsonFuzz, ChunksParseOrFail) {
  constexpr std::string_view kChunk =
      R"({"id":"x","choices":[{"index":0,"delta":{"content":"a","tool_calls":[{"index":0,"id":"i","function":{"name":"f","arguments":"{"}}]},"logprobs":{"content":[]},"finish_reason":null}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":1}},"mlxs":{"token_ids":[1,2]}})";
  constexpr std::string_view kError =
      R"({"error":{"message":"m","type":"server_error","code":"x"}})";
  std::mt19937_64 random{11};
  int accepted = 0;
  for (int round = 0; round < 40'000; ++round) {
    const std::string text = mutated(std::string{round % 4 == 0 ? kError : kChunk}, random);
    for (const auto& chunk :
         {parse_chunk(Surface::kChat, text), parse_whole(Surface::kChat, text)}) {
      if (!chunk) expect_renders(chunk.error());
      accepted += chunk.has_value();
    }
    expect_renders(read_error(500, text));
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace mlxs::api
