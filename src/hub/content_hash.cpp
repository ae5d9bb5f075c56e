#include "hub/content_hash.h"

#include "base/assert.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

namespace mlxs::hub {

struct ContentHash::Impl {
  ::EVP_MD_CTX* context = ::EVP_MD_CTX_new();
  ~Impl() { ::EVP_MD_CTX_free(context); }
};

ContentHash::ContentHash(std::string_view etag, std::uint64_t size)
    : impl_(std::make_unique<Impl>()) {
  const bool git = etag.size() == 40;
  MLXS_ASSERT(::EVP_DigestInit_ex(impl_->context, git ? ::EVP_sha1() : ::EVP_sha256(), nullptr) ==
              1);
  if (git) add(fmt::format("blob {}", size) + '\0');
}

ContentHash::~ContentHash() = default;

void ContentHash::add(std::string_view bytes) {
  MLXS_ASSERT(::EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1);
}

std::string ContentHash::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  MLXS_ASSERT(::EVP_DigestFinal_ex(impl_->context, digest.data(), &length) == 1);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace mlxs::hub
