#pragma once

#include "base/result.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace mlxs::engine {

/// A model's chat template (Jinja), rendered as Hugging Face transformers renders it: trim_blocks
/// and lstrip_blocks, loop controls, `raise_exception`, `strftime_now`, `tojson` with Python's
/// spacing and the keys' own order, Python's string, list and dict methods, undefined values that
/// are falsy. Immutable; any thread.
class ChatTemplate {
 public:
  /// `bos_token` and `eos_token` are the spellings templates refer to; may be empty.
  /// kCorruptFile with the template engine's message and line.
  [[nodiscard]] static Result<std::unique_ptr<ChatTemplate>> compile(std::string source,
                                                                     std::string bos_token,
                                                                     std::string eos_token);
  ~ChatTemplate();

  struct Input {
    std::string_view messages_json;        ///< JSON array of messages; key order is kept.
    std::string_view tools_json = {};      ///< JSON array, or empty for none.
    std::string_view arguments_json = {};  ///< JSON object of further variables, or empty.
    bool add_generation_prompt = true;
    std::chrono::sys_seconds now{};  ///< For strftime_now (UTC).
  };
  /// kInvalidRequest (param "messages") with the template's own words when it raises an exception.
  [[nodiscard]] Result<std::string> render(const Input& input) const;
  /// Hex SHA-256 of the source.
  [[nodiscard]] const std::string& digest() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxs::engine
