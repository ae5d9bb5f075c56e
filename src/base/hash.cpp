#include "base/hash.h"

#include "base/assert.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

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

bool equal_constant_time(const Sha256& a, const Sha256& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace mlxs
