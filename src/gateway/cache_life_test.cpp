// Kept answers through a whole gateway: who gets them, who takes them away, what a restart keeps.
#include "base/ids.h"
#include "gateway/testing/test_gateway.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace mlxs::gateway {
namespace {

// Dedup off, so that the prompt cache answers at once.
const std::string kCacheOnly = "    sharing: { dedup: { policy: off } }\n";

// A deterministic request whose answer is kept.
std::string ask(TestGateway& gateway, const std::string& what = "hi") {
  const Answer answer = post(
      gateway.api(),
      "/v1/chat/completions",
      R"({"model":"m","temperature":0,"messages":[{"role":"user","content":")" + what + "\"}]}");
  EXPECT_EQ(answer.status, 200) << answer.body;
  return std::string{answer.header("x-mlx-cache")};
}

int flush(const TestGateway& gateway, const std::string& body = R"({"scope":"all"})") {
  return post(gateway.admin(), "/admin/v1/cache/flush", body).status;
}

void set_feature(const TestGateway& gateway, const std::string& name, const std::string& body) {
  EXPECT_EQ(put(gateway.admin(), "/admin/v1/features/" + name, body).status, 200);
}

// A state folder that several gateways use one after the other, and their worker.
struct Restarts {
  Restarts() { std::filesystem::create_directories(folder); }
  Restarts(const Restarts&) = delete;
  Restarts& operator=(const Restarts&) = delete;
  ~Restarts() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  std::unique_ptr<TestGateway> start(const std::string& snapshot = "snapshot: on") {
    auto gateway =
        std::make_unique<TestGateway>(native_yaml(kCacheOnly + "prompt_cache: { " + snapshot +
                                                  " }\nstate_dir: \"" + folder.string() + "\"\n"));
    gateway->set_workers({{"m/0", "m", worker.address()}});
    return gateway;
  }
  // Written at the drain, read at the next start.
  std::unique_ptr<TestGateway> restart(std::unique_ptr<TestGateway> gateway,
                                       const std::string& snapshot = "snapshot: on") {
    gateway->drain();
    EXPECT_EQ(gateway->wait_exit(), 0);
    gateway.reset();
    return start(snapshot);
  }
  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / random_id("mlxs-restarts-");
  MockWorker worker;
};

// R-CACHE-5
TEST(CacheLife, NothingAdmittedAfterAFlushSeesAnOlderAnswer) {
  NativePair pair{kCacheOnly};
  const std::string scopes[] = {R"({"scope":"all"})",
                                R"({"scope":"tenant","tenant":""})",
                                R"({"scope":"model","model":"m"})"};
  for (const std::string& scope : scopes) {
    EXPECT_EQ(ask(pair.gateway), "miss");
    EXPECT_EQ(ask(pair.gateway), "hit");
    EXPECT_EQ(flush(pair.gateway, scope), 200);
  }
  EXPECT_EQ(ask(pair.gateway), "miss");
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_evictions_total{reason="flush"})", 3));
}

TEST(CacheLife, AnAnswersOwnKeyFlushesItAndNoOther) {
  NativePair pair{kCacheOnly};
  EXPECT_EQ(ask(pair.gateway, "one"), "miss");
  EXPECT_EQ(ask(pair.gateway, "two"), "miss");
  const Answer one =
      post(pair.gateway.api(),
           "/v1/chat/completions",
           R"({"model":"m","temperature":0,"messages":[{"role":"user","content":"one"}]})");

  EXPECT_EQ(flush(pair.gateway,
                  R"({"scope":"key","key":")" + std::string{one.header("x-mlx-cache-key")} + "\"}"),
            200);

  EXPECT_EQ(ask(pair.gateway, "one"), "miss");
  EXPECT_EQ(ask(pair.gateway, "two"), "hit");
}

// R-CACHE-5: a flight that was under way when the flush came leaves nothing behind.
TEST(CacheLife, AFlightBegunBeforeAFlushIsNeitherJoinedNorKept) {
  NativePair pair{kCacheOnly};
  pair.worker.set_script({script::token("a"),
                          script::gate("a"),
                          script::finish(),
                          script::usage(1, 1),
                          script::done()});
  Client first{pair.gateway.api()};
  first.post("/v1/chat/completions", chat_body(R"(,"temperature":0,"stream":true)"));
  (void)first.read_head();

  EXPECT_EQ(flush(pair.gateway), 200);
  Client second{pair.gateway.api()};
  second.post("/v1/chat/completions", chat_body(R"(,"temperature":0,"stream":true)"));
  EXPECT_EQ(second.read_head().header("x-mlx-cache"), "miss");
  pair.worker.open("a");
  EXPECT_EQ(read_text(first), "a");
  EXPECT_EQ(read_text(second), "a");

  EXPECT_EQ(pair.worker.requests(), 2U);
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_evictions_total{reason="epoch"})", 1));
}

TEST(CacheLife, AnAnswerGeneratedAnewReplacesTheKeptOne) {
  NativePair pair{kCacheOnly};
  EXPECT_EQ(ask(pair.gateway), "miss");

  EXPECT_EQ(pair.gateway.chat(R"(,"temperature":0,"mlxs":{"cache":"refresh"})").status, 200);

  EXPECT_EQ(ask(pair.gateway), "hit");
  EXPECT_EQ(pair.worker.requests(), 2U);
  EXPECT_EQ(pair.gateway.metric(R"(mlx_cache_evictions_total{reason="replaced"})"), 1);
  EXPECT_EQ(pair.gateway.metric(R"(mlx_cache_entries{layer="prompt_cache"})"), 1);
}

TEST(CacheLife, SwitchesTakeEffectOnTheNextRequest) {
  NativePair pair{"    sharing: { dedup: { ttl_ms: 60000 } }\n"};
  EXPECT_EQ(ask(pair.gateway), "miss");
  EXPECT_EQ(ask(pair.gateway), "dedup");

  set_feature(pair.gateway, "dedup", R"({"enabled":false})");
  EXPECT_EQ(ask(pair.gateway), "hit");
  set_feature(pair.gateway, "prompt_cache", R"({"enabled":false,"model":"m"})");
  EXPECT_EQ(ask(pair.gateway), "miss");
  set_feature(pair.gateway, "coalescing", R"({"enabled":false})");
  EXPECT_EQ(ask(pair.gateway), "bypass");

  set_feature(pair.gateway, "dedup", R"({"enabled":true})");
  EXPECT_EQ(ask(pair.gateway), "dedup");
}

/// What sharing did for two equal requests, one after the other.
std::string two(const TestGateway& gateway, const std::string& model) {
  std::string results;
  for (int k = 0; k < 2; ++k) {
    const Answer answer =
        post(gateway.api(), "/v1/chat/completions", chat_body(R"(,"temperature":0)", model));
    EXPECT_EQ(answer.status, 200) << answer.body;
    results += std::string{answer.header("x-mlx-cache")} + " ";
  }
  EXPECT_EQ(flush(gateway), 200);
  return results;
}

TEST(CacheLife, EverySwitchActsOnTheServerOrOnOneModelOnly) {
  // Of one layer each, so that the other two cannot stand in for it.
  struct Layer {
    const char* name;
    const char* yaml;
    const char* on;
    const char* off;
  };
  const Layer layers[] = {{"coalescing",
                           "dedup: { policy: off }, prompt_cache: { policy: off }",
                           "miss miss ",
                           "bypass bypass "},
                          {"dedup",
                           "dedup: { ttl_ms: 60000 }, prompt_cache: { policy: off }",
                           "miss dedup ",
                           "miss miss "},
                          {"prompt_cache", "dedup: { policy: off }", "miss hit ", "miss miss "}};
  for (const Layer& layer : layers) {
    SCOPED_TRACE(layer.name);
    MockWorker worker;
    const std::string sharing = std::string{"    sharing: { "} + layer.yaml + " }\n";
    TestGateway gateway{native_yaml(sharing) + "  - id: n\n    source: n.gguf\n" + sharing};
    gateway.set_workers({{"m/0", "m", worker.address()}, {"n/0", "n", worker.address()}});
    ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
    ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="n/0"})", 1));
    EXPECT_EQ(two(gateway, "m"), layer.on);

    set_feature(gateway, layer.name, R"({"enabled":false})");
    EXPECT_EQ(two(gateway, "m"), layer.off);
    EXPECT_EQ(two(gateway, "n"), layer.off);

    set_feature(gateway, layer.name, R"({"enabled":true})");
    set_feature(gateway, layer.name, R"({"enabled":false,"model":"n"})");
    EXPECT_EQ(two(gateway, "m"), layer.on);
    EXPECT_EQ(two(gateway, "n"), layer.off);

    set_feature(gateway, layer.name, R"({"enabled":true,"model":"n"})");
    EXPECT_EQ(two(gateway, "n"), layer.on);
  }
}

TEST(CacheLife, AReloadChangesPoliciesAndLimits) {
  NativePair pair{kCacheOnly};
  EXPECT_EQ(ask(pair.gateway, "one"), "miss");
  EXPECT_EQ(ask(pair.gateway, "two"), "miss");

  pair.gateway.send_config(native_yaml(kCacheOnly + "prompt_cache: { entries: 1 }\n"));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_entries{layer="prompt_cache"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_evictions_total{reason="entries"})", 1));
  EXPECT_EQ(ask(pair.gateway, "two"), "hit");

  pair.gateway.send_config(
      native_yaml("    sharing: { dedup: { policy: off }, prompt_cache: { policy: off } }\n"));
  EXPECT_TRUE(eventually([&] { return ask(pair.gateway, "two") != "hit"; }));
}

TEST(CacheLife, EntriesBytesAndLookupsAreMeasured) {
  NativePair pair{kCacheOnly + "prompt_cache: { bytes: 64KiB }\n"};
  EXPECT_EQ(ask(pair.gateway), "miss");

  EXPECT_EQ(pair.gateway.metric(R"(mlx_cache_entries{layer="prompt_cache"})"), 1);
  EXPECT_GT(pair.gateway.metric(R"(mlx_cache_bytes{layer="prompt_cache"})"), 300);
  EXPECT_GE(pair.gateway.metric("mlx_cache_lookup_seconds_count"), 1);
  const std::string evicted = R"(mlx_cache_evictions_total{reason="bytes"})";
  for (int i = 0; i < 500 && pair.gateway.metric(evicted) == 0; ++i)
    EXPECT_EQ(ask(pair.gateway, std::to_string(i)), "miss");
  EXPECT_GT(pair.gateway.metric(evicted), 0);
  EXPECT_LE(pair.gateway.metric(R"(mlx_cache_bytes{layer="prompt_cache"})"), 64 * 1024);
}

TEST(CacheLife, SampledAnswersAreKeptForDedupOnlyAndGoWhenTheyExpire) {
  Tuning tuning;
  tuning.housekeeping = Milliseconds{10};
  NativePair pair{"    sharing: { dedup: { ttl_ms: 300 } }\n", tuning};
  EXPECT_EQ(pair.gateway.chat().status, 200);

  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_evictions_total{reason="ttl"})", 1));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_cache_entries{layer="dedup"})", 0));
}

TEST(CacheLife, ASnapshotKeepsAnswersOverARestart) {
  Restarts restarts;
  auto gateway = restarts.start();
  EXPECT_EQ(ask(*gateway), "miss");
  const auto text = gateway->chat(R"(,"temperature":0)").json().at("choices");

  gateway = restarts.restart(std::move(gateway));

  ASSERT_TRUE(gateway->wait_metric(R"(mlx_cache_entries{layer="prompt_cache"})", 1));
  const Answer answer = gateway->chat(R"(,"temperature":0)");
  EXPECT_EQ(answer.header("x-mlx-cache"), "hit");
  EXPECT_EQ(answer.json().at("choices"), text);
  EXPECT_EQ(restarts.worker.requests(), 1U);
}

TEST(CacheLife, WithoutASnapshotARestartForgets) {
  Restarts restarts;
  auto gateway = restarts.start("snapshot: off");
  EXPECT_EQ(ask(*gateway), "miss");

  gateway = restarts.restart(std::move(gateway), "snapshot: off");

  EXPECT_EQ(ask(*gateway), "miss");
  EXPECT_FALSE(std::filesystem::exists(restarts.folder / "prompt_cache"));
}

// R-CACHE-5: the gateway ends without a chance to write anything after the flush.
TEST(CacheLife, AFlushedAnswerDoesNotComeBackFromAnOlderSnapshot) {
  Restarts restarts;
  auto gateway = restarts.restart([&] {
    auto first = restarts.start();
    EXPECT_EQ(ask(*first, "flushed"), "miss");
    EXPECT_EQ(ask(*first, "kept"), "miss");
    return first;
  }());
  ASSERT_TRUE(gateway->wait_metric(R"(mlx_cache_entries{layer="prompt_cache"})", 2));
  const Answer hit =
      post(gateway->api(),
           "/v1/chat/completions",
           R"({"model":"m","temperature":0,"messages":[{"role":"user","content":"flushed"}]})");
  EXPECT_EQ(flush(*gateway,
                  R"({"scope":"key","key":")" + std::string{hit.header("x-mlx-cache-key")} + "\"}"),
            200);

  gateway.reset();  // its supervisor is gone: it ends at once, without a snapshot
  gateway = restarts.start();

  ASSERT_TRUE(gateway->wait_metric(R"(mlx_cache_entries{layer="prompt_cache"})", 1));
  EXPECT_EQ(ask(*gateway, "kept"), "hit");
  EXPECT_EQ(ask(*gateway, "flushed"), "miss");
}

TEST(CacheLife, ADamagedSnapshotIsAnEmptyCacheAndServingGoesOn) {
  Restarts restarts;
  auto gateway = restarts.start();
  EXPECT_EQ(ask(*gateway), "miss");
  gateway->drain();
  EXPECT_EQ(gateway->wait_exit(), 0);
  gateway.reset();
  std::fstream file{restarts.folder / "prompt_cache",
                    std::ios::in | std::ios::out | std::ios::binary};
  file.seekp(100);
  file.put('!');
  file.close();

  gateway = restarts.start();

  EXPECT_EQ(ask(*gateway), "miss");
  EXPECT_EQ(restarts.worker.requests(), 2U);
}

TEST(CacheLife, OfTwoGatewaysWithOneStateFolderTheFirstHasTheSnapshotAndBothHaveTheFlushes) {
  Restarts restarts;
  auto first = restarts.start();
  EXPECT_EQ(ask(*first, "first's"), "miss");
  EXPECT_EQ(ask(*first, "flushed"), "miss");
  auto second = restarts.start();
  EXPECT_EQ(ask(*second, "second's"), "miss");
  const Answer flushed =
      post(first->api(),
           "/v1/chat/completions",
           R"({"model":"m","temperature":0,"messages":[{"role":"user","content":"flushed"}]})");
  EXPECT_EQ(flush(*second, R"({"scope":"key","key":")" + flushed.header("x-mlx-cache-key") + "\"}"),
            200);

  second->drain();
  EXPECT_EQ(second->wait_exit(), 0);
  EXPECT_FALSE(std::filesystem::exists(restarts.folder / "prompt_cache"));
  second.reset();
  first = restarts.restart(std::move(first));

  ASSERT_TRUE(first->wait_metric(R"(mlx_cache_entries{layer="prompt_cache"})", 1));
  EXPECT_EQ(ask(*first, "first's"), "hit");
  EXPECT_EQ(ask(*first, "second's"), "miss");
  EXPECT_EQ(ask(*first, "flushed"), "miss");
}

TEST(CacheLife, TheSnapshotIsWrittenEverySoOften) {
  Restarts restarts;
  Tuning tuning;
  tuning.housekeeping = Milliseconds{10};
  TestGateway gateway{native_yaml(kCacheOnly +
                                  "prompt_cache: { snapshot: on, snapshot_every_s: 1 }\n"
                                  "state_dir: \"" +
                                  restarts.folder.string() + "\"\n"),
                      tuning};
  gateway.set_workers({{"m/0", "m", restarts.worker.address()}});
  EXPECT_EQ(ask(gateway), "miss");

  EXPECT_TRUE(
      eventually([&] { return std::filesystem::exists(restarts.folder / "prompt_cache"); }));
}

}  // namespace
}  // namespace mlxs::gateway
