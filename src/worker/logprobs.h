#pragma once

#include "api/events.h"
#include "engine/types.h"
#include "worker/codec.h"

#include <boost/json/value.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::worker {

/// How logprobs of one choice look on the wire.
///
/// chat: `content`, a list of {token, logprob, bytes, top_logprobs}. completions: the lists
/// `tokens`, `token_logprobs`, `top_logprobs` (objects, the token itself among them) and
/// `text_offset` (in characters from the beginning of the choice's text).
///
/// The `token`s of an answer joined are its text: a token that only begins a character is empty,
/// the one that completes it has it. `bytes` are the token's own; of one that a stop string cut,
/// what is left. Where a token stands alone (as an alternative) and is no valid UTF-8, its bytes
/// are written as \xe2\x82, after "bytes:" on completions, both as OpenAI does. Loop thread.
class LogprobWriter {
 public:
  /// `codec` outlives it.
  LogprobWriter(const Codec& codec, api::Surface surface) : codec_(&codec), surface_(surface) {}

  /// Text that is there already when the first tokens come.
  void skip(std::string_view text);
  /// Of the tokens that spell the next part of the text; null if there are none.
  [[nodiscard]] boost::json::value write(std::span<const engine::TokenLogprob> tokens);
  /// Of a prompt's tokens, completions only. The first has no logprob: nothing is before it.
  /// `tokens` are those from the second on, `texts` of all of them.
  [[nodiscard]] boost::json::value write_prompt(std::span<const engine::TokenId> prompt,
                                                std::span<const std::string> texts,
                                                std::span<const engine::TokenLogprob> tokens);

 private:
  [[nodiscard]] boost::json::value write_chat(std::span<const engine::TokenLogprob> tokens) const;
  [[nodiscard]] std::string shown(std::string_view bytes) const;

  const Codec* codec_;
  api::Surface surface_;
  std::size_t characters_ = 0;  ///< Of the text so far.
};

/// What each of a prompt's tokens adds to `echo`, the prompt's text: joined they are `echo` where
/// its tokens spell it, with nothing for tokens before it, such as one that begins every text.
[[nodiscard]] std::vector<std::string> prompt_texts(const Codec& codec,
                                                    std::span<const engine::TokenId> prompt,
                                                    std::string_view echo);

}  // namespace mlxs::worker
