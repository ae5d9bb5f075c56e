#include "base/hash.h"

#include "base/assert.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <charconv>
#include <system_error>

namespace mlxs {

Sha256 sha256(std::string_view bytes) {
  Sha256 digest{};
  unsigned length = 0;
  const int ok =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr);
  MLXS_ASSERT(ok == 1 && length == digest.size());
  return digest;
}

std::string to_hex(const Sha256& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * digest.size());
  for (const std::uint8_t byte : digest) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

std::optional<Sha256> sha256_from_hex(std::string_view text) {
  Sha256 digest{};
  if (text.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const char* const at = text.data() + 2 * i;
    const auto [stop, problem] = std::from_chars(at, at + 2, digest[i], 16);
    if (problem != std::errc{} || stop != at + 2) return std::nullopt;
  }
  return digest;
}

bool equal_constant_time(const Sha256& a, const Sha256& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace mlxs
