#include "base/hash.h"

#include <gtest/gtest.h>

namespace mlxs {
namespace {

TEST(Sha256, EqualsThePublishedVectors) {
  // FIPS 180-4 examples.
  EXPECT_EQ(to_hex(sha256("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Sha256, ConstantTimeCompareSeesEveryByte) {
  const Sha256 digest = sha256("key");
  EXPECT_TRUE(equal_constant_time(digest, digest));
  for (std::size_t at = 0; at < digest.size(); ++at) {
    Sha256 other = digest;
    other[at] ^= 1;
    EXPECT_FALSE(equal_constant_time(digest, other));
  }
}

TEST(Sha256, HexadecimalIsReadBackAndNothingElseIs) {
  const Sha256 digest = sha256("key");
  EXPECT_EQ(sha256_from_hex(to_hex(digest)), digest);
  EXPECT_FALSE(sha256_from_hex(""));
  EXPECT_FALSE(sha256_from_hex(to_hex(digest).substr(1)));
  EXPECT_FALSE(sha256_from_hex(to_hex(digest) + "0"));
  EXPECT_FALSE(sha256_from_hex("g" + to_hex(digest).substr(1)));
}

}  // namespace
}  // namespace mlxs
