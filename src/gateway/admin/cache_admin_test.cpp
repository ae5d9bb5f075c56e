#include "base/hash.h"
#include "base/ids.h"
#include "gateway/testing/test_gateway.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

Answer flush(const TestGateway& gateway, const std::string& body, http::Headers headers = {}) {
  return post(gateway.admin(), "/admin/v1/cache/flush", body, std::move(headers));
}

Answer set_feature(const TestGateway& gateway, const std::string& name, const std::string& body) {
  return put(gateway.admin(), "/admin/v1/features/" + name, body);
}

json::value feature(const TestGateway& gateway, std::size_t index) {
  return get(gateway.admin(), "/admin/v1/features").json().at("features").at(index);
}

TEST(CacheAdmin, EachScopeCanBeFlushedAndFlushingIsIdempotent) {
  TestGateway gateway{native_yaml()};
  const std::string key = to_hex(sha256("x"));

  for (const std::string& body : {std::string{R"({"scope":"all"})"},
                                  std::string{R"({"scope":"tenant","tenant":""})"},
                                  std::string{R"({"scope":"model","model":"m"})"},
                                  R"({"scope":"key","key":")" + key + "\"}",
                                  std::string{R"({"scope":"all"})"}}) {
    const Answer answer = flush(gateway, body);
    EXPECT_EQ(answer.status, 200) << body << answer.body;
    EXPECT_EQ(answer.json().at("flushed"), json::parse(body));
  }
  EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache").json().at("flushes"), 5);
}

TEST(CacheAdmin, AFlushThatIsNotUnderstoodFlushesNothing) {
  TestGateway gateway{native_yaml()};

  for (const char* body : {"",
                           "[]",
                           "{}",
                           R"({"scope":"everything"})",
                           R"({"scope":3})",
                           R"({"scope":"all","model":"m"})",
                           R"({"scope":"model"})",
                           R"({"scope":"model","tenant":""})",
                           R"({"scope":"model","model":"m","tenant":""})",
                           R"({"scope":"key","key":"12"})",
                           R"({"scope":"all","modle":"m"})"}) {
    const Answer answer = flush(gateway, body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_EQ(answer.json().at("error").at("type"), "invalid_request_error") << body;
  }
  EXPECT_EQ(flush(gateway, R"({"scope":"model","model":"n"})").status, 404);
  EXPECT_EQ(flush(gateway, R"({"scope":"tenant","tenant":"ann"})").status, 404);
  EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache/flush").status, 405);
  EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache").json().at("flushes"), 0);
}

TEST(CacheAdmin, TenantsAreTheNamesOfKeysAndTheCallerNeedsOne) {
  TestGateway gateway{
      native_yaml("keys: [ { name: ann, sha256: \"" + to_hex(sha256("secret")) + "\" } ]\n")};
  http::Headers headers;
  headers.add("authorization", "Bearer secret");
  const std::string ann = R"({"scope":"tenant","tenant":"ann"})";

  EXPECT_EQ(flush(gateway, ann).status, 401);
  EXPECT_EQ(flush(gateway, ann, headers).status, 200);
  EXPECT_EQ(flush(gateway, R"({"scope":"tenant","tenant":""})", headers).status, 404);
}

TEST(CacheAdmin, AFlushThatCannotBePersistedSaysWhatToDoAndServingGoesOn) {
  const auto in_the_way = std::filesystem::temp_directory_path() / random_id("mlxs-cache-admin-");
  std::ofstream{in_the_way} << "a file";
  NativePair pair{"state_dir: \"" + (in_the_way / "state").string() + "\"\n"};
  ASSERT_TRUE(pair.gateway.wait_ready());

  const Answer answer = flush(pair.gateway, R"({"scope":"all"})");

  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, HasSubstr("make state_dir writable"));
  EXPECT_EQ(get(pair.gateway.admin(), "/admin/v1/cache").json().at("flushes"), 1)
      << "in force all the same";
  EXPECT_EQ(pair.gateway.chat().status, 200);
  std::filesystem::remove(in_the_way);
}

TEST(CacheAdmin, FlushesOutliveTheProcess) {
  const auto folder = std::filesystem::temp_directory_path() / random_id("mlxs-cache-admin-");
  const std::string yaml = native_yaml("state_dir: \"" + folder.string() + "\"\n");
  for (int before = 0; before < 3; ++before) {
    TestGateway gateway{yaml};
    EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache").json().at("flushes"), before);
    EXPECT_EQ(flush(gateway, R"({"scope":"all"})").status, 200);
  }
  std::ofstream{folder / "epochs"} << "damaged";
  TestGateway gateway{yaml};
  EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache").json().at("flushes"), 0);
  std::filesystem::remove_all(folder);
}

TEST(CacheAdmin, FeaturesAreSwitchedForAllOrOneModelAndTellWhatIsInForce) {
  TestGateway gateway{native_yaml("    sharing: { dedup: { policy: off } }\n")};
  EXPECT_EQ(feature(gateway, 0).at("name"), "coalescing");
  EXPECT_EQ(feature(gateway, 0).at("models").at(0).at("in_force"), true);
  EXPECT_EQ(feature(gateway, 1).at("models").at(0).at("enabled"), true);
  EXPECT_EQ(feature(gateway, 1).at("models").at(0).at("policy"), "off");
  EXPECT_EQ(feature(gateway, 1).at("models").at(0).at("in_force"), false);

  for (int again = 0; again < 2; ++again) {
    const Answer off = set_feature(gateway, "prompt_cache", R"({"enabled":false})");
    EXPECT_EQ(off.status, 200);
    EXPECT_EQ(off.json(), feature(gateway, 2));
    EXPECT_EQ(feature(gateway, 2).at("enabled"), false);
    EXPECT_EQ(feature(gateway, 2).at("models").at(0).at("in_force"), false);
  }
  EXPECT_EQ(set_feature(gateway, "coalescing", R"({"enabled":false,"model":"m"})").status, 200);
  EXPECT_EQ(feature(gateway, 0).at("enabled"), true);
  EXPECT_EQ(feature(gateway, 0).at("models").at(0).at("in_force"), false);
  EXPECT_EQ(set_feature(gateway, "coalescing", R"({"enabled":true,"model":"m"})").status, 200);
  EXPECT_EQ(feature(gateway, 0).at("models").at(0).at("in_force"), true);
}

TEST(CacheAdmin, SwitchesOutliveAReload) {
  TestGateway gateway{native_yaml()};
  EXPECT_EQ(set_feature(gateway, "dedup", R"({"enabled":false})").status, 200);

  gateway.send_config(native_yaml("prompt_cache: { entries: 77 }\n"));
  ASSERT_TRUE(eventually([&] {
    return get(gateway.admin(), "/admin/v1/cache").json().at("limits").at("entries") == 77;
  }));

  EXPECT_EQ(feature(gateway, 1).at("enabled"), false);
}

TEST(CacheAdmin, ASwitchThatIsNotUnderstoodChangesNothing) {
  TestGateway gateway{native_yaml()};

  EXPECT_EQ(set_feature(gateway, "batching", R"({"enabled":false})").status, 404);
  EXPECT_EQ(set_feature(gateway, "dedup", R"({"enabled":"no"})").status, 400);
  EXPECT_EQ(set_feature(gateway, "dedup", R"({"enabled":false,"modle":"m"})").status, 400);
  EXPECT_EQ(set_feature(gateway, "dedup", R"({"enabled":false,"model":"n"})").status, 404);
  EXPECT_EQ(get(gateway.admin(), "/admin/v1/features/dedup").status, 405);
  EXPECT_EQ(feature(gateway, 1).at("enabled"), true);
}

TEST(CacheAdmin, ActionsLeaveALineInTheAccessLogAndLooksDoNot) {
  const auto file = std::filesystem::temp_directory_path() / random_id("mlxs-cache-admin-");
  {
    TestGateway gateway{native_yaml("log: { access: \"" + file.string() + "\" }\n")};
    EXPECT_EQ(flush(gateway, R"({"scope":"all"})").status, 200);
    EXPECT_EQ(set_feature(gateway, "dedup", "{}").status, 400);
    EXPECT_EQ(get(gateway.admin(), "/admin/v1/cache").status, 200);
  }
  std::ifstream in{file};
  std::string line;
  std::string all;
  int lines = 0;
  for (; std::getline(in, line); ++lines) all += line;

  EXPECT_EQ(lines, 2) << all;
  EXPECT_THAT(all, HasSubstr("/admin/v1/cache/flush"));
  EXPECT_THAT(all, HasSubstr("/admin/v1/features/dedup"));
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace mlxs::gateway
