#include "gateway/sharing/fingerprint.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;

const json::object& body() {
  static const json::object object =
      json::parse(R"({"model":"m","messages":[{"role":"user","content":"hi"}]})").get_object();
  return object;
}

FingerprintScope scope() {
  return {.tenant = "t", .model = "m", .generation = "g", .surface = api::Surface::kChat};
}

TEST(Fingerprint, IsEqualForEqualRequests) {
  const auto one = make_fingerprint(scope(), body());
  const auto two = make_fingerprint(scope(), body());

  EXPECT_EQ(*one, *two);
  EXPECT_EQ(one->digest, sha256(one->canonical));
}

// R-CACHE-1: the scope counts as much as the body.
TEST(Fingerprint, DiffersInEveryPartOfItsScope) {
  std::set<Sha256> digests{make_fingerprint(scope(), body())->digest};
  const auto add = [&](FingerprintScope changed) {
    EXPECT_TRUE(digests.insert(make_fingerprint(changed, body())->digest).second);
  };

  FingerprintScope changed = scope();
  changed.tenant = "u";
  add(changed);
  changed = scope();
  changed.model = "n";
  add(changed);
  changed = scope();
  changed.generation = "h";
  add(changed);
  changed = scope();
  changed.surface = api::Surface::kCompletions;
  add(changed);
  changed = scope();
  changed.native = false;
  add(changed);
}

TEST(Fingerprint, PartsOfTheScopeDoNotRunIntoEachOther) {
  FingerprintScope one = scope();
  one.tenant = "a\",\"b";
  one.model = "c";
  FingerprintScope two = scope();
  two.tenant = "a";
  two.model = "b\",\"c";

  EXPECT_NE(make_fingerprint(one, body())->canonical, make_fingerprint(two, body())->canonical);
}

// R-CACHE-2
TEST(Fingerprint, EqualDigestsAloneDoNotMakeTwoEqual) {
  Fingerprint one = *make_fingerprint(scope(), body());
  Fingerprint two = one;
  two.canonical += ' ';

  EXPECT_FALSE(one == two);
}

}  // namespace
}  // namespace mlxs::gateway
