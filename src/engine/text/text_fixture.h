#pragma once

#include "engine/text/tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

/// A byte-level vocabulary small enough to write ids down by hand. For tests.
namespace mlxs::engine {

/// UTF-8 of the character that byte-level vocabularies write for `byte`.
inline std::string byte_character(unsigned byte) {
  unsigned code = byte;
  if (byte <= 0x20) code = 0x100 + byte;
  if (byte >= 0x7F && byte <= 0xA0) code = 0x121 + byte - 0x7F;
  if (byte == 0xAD) code = 0x143;
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// Ids 0 to 255 are the bytes; then come "he", "ll", "hell", "hello" and " hello" in this order,
/// the control token "<s>" (261), the user-defined "<tool>" (262) and an unused place (263).
inline GgufVocabulary tiny_vocabulary() {
  GgufVocabulary out;
  out.model = "gpt2";
  out.pre = "gpt-2";
  for (unsigned byte = 0; byte < 256; ++byte) out.tokens.push_back(byte_character(byte));
  const std::string space = byte_character(' ');
  for (const std::string& token : {std::string{"he"},
                                   std::string{"ll"},
                                   std::string{"hell"},
                                   std::string{"hello"},
                                   space + "hello",
                                   std::string{"<s>"},
                                   std::string{"<tool>"},
                                   std::string{"[PAD263]"}})
    out.tokens.push_back(token);
  out.token_types.assign(out.tokens.size(), 1);
  out.token_types[261] = 3;
  out.token_types[262] = 4;
  out.token_types[263] = 5;
  out.merges = {"h e", "l l", "he ll", "hell o", space + " hello"};
  out.bos = 261;
  return out;
}

}  // namespace mlxs::engine
