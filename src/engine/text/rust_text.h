#pragma once

#include "base/result.h"

#include <mlxs_text.h>

#include <string>
#include <string_view>

/// What the text sources share in talking to the Rust library. Not for other folders.
namespace mlxs::engine::rust_text {

inline mlxs_text_view view(std::string_view text) { return {text.data(), text.size()}; }

inline std::string_view view(mlxs_text_view text) { return {text.data, text.size}; }

/// Copies and frees.
[[nodiscard]] inline std::string take(mlxs_text_string string) {
  std::string copy{string.data, string.size};
  mlxs_text_string_free(string);
  return copy;
}

/// The library's error as ours; frees its message. `prefix` goes before the message of a corrupt
/// file, `param` names the field at fault where the input is wrong.
[[nodiscard]] inline Error take_error(const mlxs_text_error& error,
                                      std::string_view prefix = {},
                                      std::string param = {}) {
  std::string message = take(error.message);
  switch (error.kind) {
    case MLXS_TEXT_INVALID_INPUT:
      return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(param));
    case MLXS_TEXT_CORRUPT:
      return fail(ErrorCode::kCorruptFile, std::string{prefix} + message);
    default:
      return fail(ErrorCode::kInternal, "[text] " + message);
  }
}

}  // namespace mlxs::engine::rust_text
