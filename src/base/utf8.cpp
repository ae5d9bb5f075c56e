#include "base/utf8.h"

#include <cstdint>

namespace mlxs {
namespace {

/// Bytes of the character that `lead` opens; 0 if it opens none.
std::size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

bool is_continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

std::size_t utf8_complete_prefix(std::string_view text) {
  // A character has at most three continuation bytes, so its lead is among the last four bytes.
  const std::size_t reach = text.size() < 4 ? text.size() : 4;
  for (std::size_t back = 1; back <= reach; ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (is_continuation(byte)) continue;
    return sequence_length(byte) > back ? text.size() - back : text.size();
  }
  return text.size();
}

bool utf8_valid(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t length = sequence_length(lead);
    if (length == 0 || at + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if (!is_continuation(static_cast<unsigned char>(text[at + k]))) return false;
    if (length > 2) {
      const auto second = static_cast<unsigned char>(text[at + 1]);
      if (lead == 0xE0 && second < 0xA0) return false;  // overlong
      if (lead == 0xED && second > 0x9F) return false;  // surrogate
      if (lead == 0xF0 && second < 0x90) return false;  // overlong
      if (lead == 0xF4 && second > 0x8F) return false;  // beyond U+10FFFF
    }
    at += length;
  }
  return true;
}

}  // namespace mlxs
