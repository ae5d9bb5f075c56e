#pragma once

#include "api/events.h"

#include <cstdint>
#include <string>
#include <vector>

namespace mlxs::api {

/// What is equal in every chunk of one answer.
struct AnswerHead {
  Surface surface = Surface::kChat;
  std::string id;            ///< "chatcmpl-…" or "cmpl-…"
  std::int64_t created = 0;  ///< Unix seconds.
  std::string model;         ///< The name the client asked for.
};

/// Renders one answer as SSE frames ("data: {…}\n\n"). Keeps per choice whether its role was sent:
/// role once, in a choice's first chunk; finish_reason in a chunk with an empty delta; the usage
/// chunk last with `choices: []`; `[DONE]` only through `done`. Token ids go out as
/// `mlxs.token_ids` when `with_token_ids`. With `with_usage`, chunks other than the usage chunk
/// carry `usage: null`.
class StreamRenderer {
 public:
  StreamRenderer(AnswerHead head, bool with_usage, bool with_token_ids);
  void append(std::string& out, const Delta& delta);
  /// The usage chunk; nothing unless `with_usage`.
  void append_usage(std::string& out, const Usage& usage);
  void append_done(std::string& out);
  /// A typed error event, after which the stream is closed without [DONE].
  static void append_error(std::string& out, const Error& error);

 private:
  AnswerHead head_;
  std::string head_json_;
  bool with_usage_;
  bool with_token_ids_;
  std::vector<bool> role_sent_;
};

/// Collects the deltas of an answer and renders it whole (`chat.completion`, `text_completion`).
class WholeRenderer {
 public:
  explicit WholeRenderer(AnswerHead head);
  void add(const Delta& delta);
  [[nodiscard]] std::string render(const Usage& usage) const;

 private:
  struct Choice {
    std::string text;
    std::string reasoning;
    boost::json::array tool_calls;
    boost::json::array logprob_content;
    std::string finish_reason;
  };
  AnswerHead head_;
  std::vector<Choice> choices_;
};

}  // namespace mlxs::api
