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
/// chat: role once, in a frame of its own before a choice's first other frame; finish_reason in a
/// frame with an empty delta; completions: finish_reason in the frame of the last text.
/// The usage frame comes last with `choices: []`; `[DONE]` only through `append_done`. Token ids go
/// out as `mlxs.token_ids` when `with_token_ids`. With `with_usage`, frames other than the usage
/// frame carry `usage: null`.
class StreamRenderer {
 public:
  StreamRenderer(AnswerHead head, bool with_usage, bool with_token_ids);
  /// One or more frames; none for a delta with nothing to show.
  void append(std::string& out, const Delta& delta);
  /// The usage frame; nothing unless `with_usage`.
  void append_usage(std::string& out, const Usage& usage);
  void append_done(std::string& out);
  /// A typed error event, after which the stream is closed without [DONE].
  static void append_error(std::string& out, const Error& error);

 private:
  void append_role(std::string& out, int choice);
  void open(std::string& out, int choice) const;
  void close(std::string& out,
             const Delta& delta,
             const std::string& finish_reason,
             bool with_ids) const;

  bool chat_;
  std::string opening_;  ///< Every frame up to the list of choices.
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
    boost::json::array tool_calls;  ///< Joined calls, at their index.
    boost::json::value logprobs;    ///< Lists of later deltas are appended to the first's.
    std::string finish_reason;
  };
  void append_message(std::string& out, const Choice& choice) const;

  AnswerHead head_;
  std::vector<Choice> choices_;
};

}  // namespace mlxs::api
