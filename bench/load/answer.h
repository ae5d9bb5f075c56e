#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mlxs::bench {

/// Reads one answer, streamed or whole, by looking for the few members it needs instead of parsing
/// JSON, so that the driver stays cheaper than what it measures. Works for every server that writes
/// an object's members once (`"name": value`, with or without the blank).
class AnswerReader {
 public:
  /// The data of one event, or a whole body. True when it carried text.
  bool take(std::string_view data);

  [[nodiscard]] bool finished() const { return finished_; }  ///< A finish reason came.
  [[nodiscard]] bool done() const { return done_; }          ///< "[DONE]" came.
  [[nodiscard]] bool failed() const { return failed_; }      ///< An error object came.
  [[nodiscard]] int prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] int completion_tokens() const { return completion_tokens_; }
  /// Of the whole text as escaped on the wire (FNV-1a).
  [[nodiscard]] std::uint64_t text_hash() const { return hash_; }
  /// Its first bytes, enough for a marker.
  [[nodiscard]] const std::string& beginning() const { return beginning_; }

 private:
  void take_text(std::string_view text);

  bool finished_ = false;
  bool done_ = false;
  bool failed_ = false;
  int prompt_tokens_ = 0;
  int completion_tokens_ = 0;
  std::uint64_t hash_ = 1469598103934665603ULL;
  std::string beginning_;
};

}  // namespace mlxs::bench
