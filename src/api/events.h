#pragma once

#include "base/error.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::api {

/// Which of the two generation endpoints a request came to; decides its fields and its answer's
/// shape.
enum class Surface { kChat, kCompletions };

/// One piece of an answer, independent of the surface that shows it. What a flight's log holds.
struct Delta {
  int choice = 0;
  std::string text = {};                     ///< chat: delta.content; completions: text.
  std::string reasoning = {};                ///< delta.reasoning_content (or reasoning).
  boost::json::array tool_calls = {};        ///< As on the wire: fragments keyed by "index".
  boost::json::value logprobs = {};          ///< As on the wire; null if none.
  std::string finish_reason = {};            ///< Empty until the choice's last delta.
  std::vector<std::int32_t> token_ids = {};  ///< mlxs.token_ids; native workers only.
};

/// Token counts of a request.
struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;     ///< prompt_tokens_details.cached_tokens
  std::int64_t reasoning_tokens = 0;  ///< completion_tokens_details.reasoning_tokens
};

/// What one upstream chunk (one SSE event) said.
struct Chunk {
  std::vector<Delta> deltas;
  std::optional<Usage> usage;
  std::string model;  ///< The upstream's name for its model.
};

}  // namespace mlxs::api
