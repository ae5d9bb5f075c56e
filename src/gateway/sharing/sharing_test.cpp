// Kept answers and the control of sharing, as clients see them: a whole gateway, a scripted worker,
// real sockets.
#include "base/hash.h"
#include "gateway/testing/streams.h"
#include "gateway/testing/test_gateway.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using namespace script;
using testing::HasSubstr;

const char* kFixed = R"(,"temperature":0)";
// So that no test depends on how fast it runs.
const char* kLongDedup = "    sharing: { dedup: { ttl_ms: 60000 } }\n";

json::object state_with(const std::string& weights) {
  return {{"ready", true},
          {"steps", 0},
          {"running", 0},
          {"waiting", 0},
          {"digests", {{"weights", weights}, {"tokenizer", "t"}, {"template", "c"}}}};
}

// R-CACHE-6, dedup: for a second from completion.
TEST(Dedup, ServesTheCompletedAnswerAgain) {
  NativePair pair{kLongDedup};
  const Answer first = pair.gateway.chat();

  const Answer again = pair.gateway.chat();
  const Answer stream =
      pair.gateway.chat(R"(,"stream":true,"stream_options":{"include_usage":true})");

  EXPECT_EQ(first.header("x-mlx-cache"), "miss");
  EXPECT_EQ(first.header("age"), "");
  EXPECT_EQ(again.header("x-mlx-cache"), "dedup");
  EXPECT_FALSE(again.header("age").empty());
  EXPECT_EQ(again.header("x-mlx-cache-key"), first.header("x-mlx-cache-key"));
  EXPECT_EQ(again.header("x-mlx-cache-key").size(), 64U);
  EXPECT_NE(again.header("x-request-id"), first.header("x-request-id"));
  EXPECT_EQ(again.json().at("id"), first.json().at("id"));
  EXPECT_EQ(again.json().at("choices"), first.json().at("choices"));
  EXPECT_EQ(first.json().at("usage").at("prompt_tokens_details").at("cached_tokens"), 0);
  EXPECT_EQ(again.json().at("usage").at("prompt_tokens_details").at("cached_tokens"), 3);
  EXPECT_EQ(stream.header("x-mlx-cache"), "dedup");
  EXPECT_THAT(stream.body, HasSubstr("Hello"));
  EXPECT_THAT(stream.body, HasSubstr(R"("cached_tokens":3)"));
  EXPECT_THAT(stream.body, HasSubstr("[DONE]"));
  EXPECT_EQ(pair.worker.requests(), 1U);
  EXPECT_TRUE(
      pair.gateway.wait_metric(R"(mlx_cache_requests_total{layer="dedup",result="dedup"})", 2));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_saved_tokens_total{by="cache",kind="output"})", 4));
}

TEST(PromptCache, ServesDeterministicRequestsOnly) {
  NativePair pair{"    sharing: { dedup: { policy: off } }\n"};

  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "hit");
  EXPECT_EQ(pair.gateway.chat().header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat().header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat(R"(,"seed":5)").header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat(R"(,"seed":5)").header("x-mlx-cache"), "hit");
  EXPECT_EQ(pair.worker.requests(), 4U);
  EXPECT_TRUE(pair.gateway.wait_metric(
      R"(mlx_cache_requests_total{layer="prompt_cache",result="hit"})", 2));
  EXPECT_TRUE(
      pair.gateway.wait_metric(R"(mlx_cache_requests_total{layer="dedup",result="bypass"})", 6));
}

// R-CACHE-6: partial and failed answers are never kept.
TEST(Kept, AreOnlyAnswersThatEndedWell) {
  NativePair pair{kLongDedup};
  pair.worker.enqueue({token("a"), finish("content_filter"), usage(1, 1), done()});
  pair.worker.enqueue({token("a"), cut()});
  pair.worker.enqueue({answer(400, R"({"error":{"message":"no"}})")});
  pair.worker.enqueue(hello());

  for (int k = 0; k < 4; ++k) EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "miss");

  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "dedup");
}

TEST(Kept, NotForTheFirstGenerationOnceTheModelChanged) {
  NativePair pair{kLongDedup};
  pair.worker.set_state(state_with("one"));
  EXPECT_EQ(pair.gateway.chat(kFixed).status, 200);
  const std::string before = pair.gateway.chat(kFixed).header("x-mlx-cache-key");

  pair.worker.set_state(state_with("two"));
  std::string key = before;
  while (key == before) key = pair.gateway.chat(kFixed).header("x-mlx-cache-key");

  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "dedup");
}

TEST(Kept, NotWhileWorkersOfSeveralGenerationsServeTheModel) {
  MockWorker one;
  MockWorker two;
  one.set_state(state_with("one"));
  two.set_state(state_with("two"));
  TestGateway gateway{native_yaml()};
  gateway.set_workers({{"m/0", "m", one.address()}, {"m/1", "m", two.address()}});
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/1"})", 1));

  for (int k = 0; k < 4; ++k) EXPECT_EQ(gateway.chat(kFixed).header("x-mlx-cache"), "bypass");

  EXPECT_EQ(one.requests() + two.requests(), 4U);
}

TEST(Control, EachWordDoesWhatItSays) {
  NativePair pair{kLongDedup};
  const auto say = [&](const char* name, const char* word) {
    return pair.gateway.chat(kFixed, headers_of({{name, word}})).header("x-mlx-cache");
  };

  EXPECT_EQ(say("x-mlx-cache", "no-store"), "miss");
  EXPECT_EQ(say("cache-control", "no-store"), "miss");
  EXPECT_EQ(say("x-mlx-cache", "bypass"), "bypass");
  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat(kFixed).header("x-mlx-cache"), "dedup");
  EXPECT_EQ(say("x-mlx-cache", "no-store"), "dedup");
  EXPECT_EQ(say("x-mlx-cache", "bypass"), "bypass");
  EXPECT_EQ(say("cache-control", "max-age=0"), "dedup");
  EXPECT_EQ(say("cache-control", "no-cache, no-store"), "bypass");
  EXPECT_EQ(pair.worker.requests(), 6U);
  pair.worker.set_script(hello({"newer"}));
  EXPECT_EQ(say("x-mlx-cache", "refresh"), "miss");
  EXPECT_THAT(pair.gateway.chat(kFixed).body, HasSubstr("newer"));
  pair.worker.set_script(hello({"newest"}));
  EXPECT_EQ(say("cache-control", "No-Cache"), "miss");
  EXPECT_THAT(pair.gateway.chat(kFixed).body, HasSubstr("newest"));
  EXPECT_EQ(
      pair.gateway.chat(R"(,"temperature":0,"mlxs":{"cache":"bypass"})").header("x-mlx-cache"),
      "bypass");
}

TEST(Control, AnUnknownWordIsRefusedNamingItsPlace) {
  NativePair pair{kLongDedup};

  const Answer header = pair.gateway.chat("", headers_of({{"x-mlx-cache", "never"}}));
  const Answer body = pair.gateway.chat(R"(,"mlxs":{"cache":1})");

  EXPECT_EQ(header.status, 400);
  EXPECT_EQ(header.json().at("error").at("param"), "x-mlx-cache");
  EXPECT_EQ(body.status, 400);
  EXPECT_EQ(body.json().at("error").at("param"), "mlxs.cache");
  EXPECT_EQ(pair.worker.requests(), 0U);
}

TEST(Control, ARefreshIsJoinedButJoinsNobody) {
  NativePair pair{kLongDedup};
  pair.worker.set_script(gated());
  Clients old = joined(pair.gateway, 1);
  Client refreshing{pair.gateway.api()};
  refreshing.post(
      "/v1/chat/completions", chat_body(kStream), headers_of({{"x-mlx-cache", "refresh"}}));
  EXPECT_EQ(refreshing.read_head().header("x-mlx-cache"), "miss");

  Clients after = joined(pair.gateway, 1);
  pair.worker.open("a");

  EXPECT_EQ(read_text(refreshing), "Hello world");
  EXPECT_EQ(read_text(*after.front()), " world");
  EXPECT_EQ(read_text(*old.front()), " world");
  EXPECT_EQ(pair.worker.requests(), 2U);
}

TEST(Policy, EachLayerCanBeSwitchedOffWhileTheGatewayRuns) {
  const auto off = [](const char* layer) {
    return native_yaml("    sharing: { dedup: { ttl_ms: 60000 }, " + std::string{layer} + " }\n");
  };
  NativePair pair{kLongDedup};
  pair.worker.set_script(gated());
  Clients before = joined(pair.gateway, 1);

  pair.gateway.send_config(off("coalescing: { policy: off }"));
  std::string result = "coalesced";
  Clients after;
  while (result == "coalesced") {
    after.push_back(std::make_unique<Client>(pair.gateway.api()));
    after.back()->post("/v1/chat/completions", chat_body(kStream));
    result = after.back()->read_head().header("x-mlx-cache");
  }
  pair.worker.open("a");

  EXPECT_EQ(result, "miss");
  EXPECT_EQ(read_text(*after.back()), "Hello world");
  EXPECT_EQ(pair.worker.requests(), 2U);
}

// R-CACHE-1: tenants never share, and a key can ask for less than the model's policy.
TEST(Policy, KeysAreTenantsWithAWordOfTheirOwn) {
  const auto key = [](const char* name, const char* more) {
    return std::string{"  - { name: "} + name + ", sha256: " + to_hex(sha256(name)) + more + " }\n";
  };
  NativePair pair{kLongDedup + std::string{"keys:\n"} + key("ann", "") + key("bob", "") +
                  key("strict", ", sharing: deterministic") + key("none", ", sharing: off")};
  const auto ask = [&](const char* name, const char* extra) {
    const std::string bearer = std::string{"Bearer "} + name;
    return pair.gateway.chat(extra, headers_of({{"authorization", bearer.c_str()}}))
        .header("x-mlx-cache");
  };

  EXPECT_EQ(ask("ann", ""), "miss");
  EXPECT_EQ(ask("ann", ""), "dedup");
  EXPECT_EQ(ask("bob", ""), "miss");
  EXPECT_EQ(ask("strict", ""), "bypass");
  EXPECT_EQ(ask("strict", kFixed), "miss");
  EXPECT_EQ(ask("strict", kFixed), "dedup");
  EXPECT_EQ(ask("none", kFixed), "bypass");
}

// R-CACHE-1 over HTTP: a foreign model takes every field, so each is flipped once.
TEST(Flips, OfAnyFieldMissIfItCanChangeTheAnswerAndElseHit) {
  MockWorker worker;
  TestGateway gateway{foreign_yaml({worker.url()}, kLongDedup)};
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  EXPECT_EQ(gateway.chat().header("x-mlx-cache"), "miss");
  const std::set<std::string> cosmetic{R"(,"stream":true)",
                                       R"(,"user":"u")",
                                       R"(,"metadata":{"a":"b"})",
                                       R"(,"service_tier":"flex")",
                                       R"(,"store":true)",
                                       R"(,"stream_options":{})"};
  for (const std::string& flip : cosmetic)
    EXPECT_EQ(gateway.chat(flip).header("x-mlx-cache"), "dedup") << flip;
  std::size_t misses = 1;
  for (const char* flip :
       {R"(,"temperature":0.5)",
        R"(,"temperature":0.6)",
        R"(,"top_p":0.5)",
        R"(,"top_k":4)",
        R"(,"min_p":0.1)",
        R"(,"n":2)",
        R"(,"seed":1)",
        R"(,"seed":2)",
        R"(,"stop":"x")",
        R"(,"stop":["x","y"])",
        R"(,"max_tokens":5)",
        R"(,"max_completion_tokens":5)",
        R"(,"frequency_penalty":1)",
        R"(,"presence_penalty":1)",
        R"(,"logit_bias":{"5":1})",
        R"(,"logprobs":true)",
        R"(,"logprobs":true,"top_logprobs":2)",
        R"(,"response_format":{"type":"json_object"})",
        R"(,"response_format":{"type":"json_schema","json_schema":{"name":"a"}})",
        R"(,"tools":[{"type":"function","function":{"name":"f"}}])",
        R"(,"tools":[{"function":{"name":"f"},"type":"function"}])",
        R"(,"tool_choice":"none")",
        R"(,"parallel_tool_calls":false)",
        R"(,"reasoning_effort":"low")",
        R"(,"verbosity":"low")",
        R"(,"chat_template_kwargs":{"a":1})",
        R"(,"chat_template_kwargs":{"a":1.0})",
        R"(,"prediction":{"type":"content","content":"x"})",
        R"(,"modalities":["text"])",
        R"(,"prompt_cache_key":"k")",
        R"(,"safety_identifier":"s")",
        R"(,"unknown":1)",
        R"(,"mlxs":{"seed":1})"}) {
    EXPECT_EQ(gateway.chat(flip).header("x-mlx-cache"), "miss") << flip;
    ++misses;
  }
  const Answer reordered =
      post(gateway.api(),
           "/v1/chat/completions",
           R"(  { "messages" : [ {"content":"hi",  "role":"user"} ] , "model":"m" } )");
  EXPECT_EQ(reordered.header("x-mlx-cache"), "dedup");
  EXPECT_EQ(worker.requests(), misses);
}

TEST(Flips, SurfacesDoNotShare) {
  NativePair pair{kLongDedup};
  pair.worker.enqueue({completion_token("a"), finish(), usage(1, 1), done()});
  const auto complete = [&] {
    return post(pair.gateway.api(), "/v1/completions", R"({"model":"m","prompt":"hi"})");
  };

  EXPECT_EQ(complete().header("x-mlx-cache"), "miss");
  EXPECT_EQ(pair.gateway.chat().header("x-mlx-cache"), "miss");
  EXPECT_EQ(complete().header("x-mlx-cache"), "dedup");
}

// R-CACHE-4
TEST(Stale, AnswersOfForeignModelsAreServedWhileOneIsFetchedAnew) {
  MockWorker worker;
  TestGateway gateway{foreign_yaml({worker.url()},
                                   "    sharing: { coalescing: { policy: off }, dedup: { policy: "
                                   "off } }\nprompt_cache: { ttl_s: 1, grace_s: 3600 }\n")};
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  EXPECT_EQ(gateway.chat(kFixed).header("x-mlx-cache"), "miss");
  worker.set_script({gate("a"), token("newer"), finish(), usage(3, 1), done()});
  // Hits until the second has passed; the first to come then fetches anew.
  const std::string hits = R"(mlx_cache_requests_total{layer="prompt_cache",result="hit"})";
  Clients clients;
  for (int k = 1; worker.requests() < 2; ++k) {
    clients.push_back(std::make_unique<Client>(gateway.api()));
    clients.back()->post("/v1/chat/completions", chat_body(kFixed));
    while (worker.requests() < 2 && gateway.metric(hits) < k) {
    }
  }

  EXPECT_EQ(gateway.chat(kFixed).header("x-mlx-cache"), "stale");
  EXPECT_GE(std::stoi(gateway.chat(kFixed).header("age")), 1);
  EXPECT_EQ(worker.requests(), 2U);
  worker.open("a");
  EXPECT_THAT(clients.back()->read().body, HasSubstr("newer"));
  EXPECT_THAT(gateway.chat(kFixed).body, HasSubstr("newer"));
}

/// Calls that come at once when a foreign model's answer has just passed its lifetime.
class AtSoftExpiry : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    With,
    AtSoftExpiry,
    testing::Values("    sharing: { dedup: { policy: off } }\nthreads: 4\n",
                    "    sharing: { dedup: { policy: off }, coalescing: { policy: off } }\n"),
    [](const auto& instance) { return instance.index == 0 ? "Coalescing" : "PromptCacheOnly"; });

// R-CACHE-4
TEST_P(AtSoftExpiry, AThousandCallersAreOneGeneration) {
  constexpr std::size_t kCallers = 1000;
  MockWorker worker;
  TestGateway gateway{foreign_yaml({worker.url()}, GetParam()) +
                      "prompt_cache: { ttl_s: 1, grace_s: 3600 }\nlimits: { in_flight: 2 }\n"};
  ASSERT_TRUE(gateway.wait_metric(R"(mlx_worker_state{state="ready",worker="m/0"})", 1));
  EXPECT_EQ(gateway.chat(kFixed).header("x-mlx-cache"), "miss");
  const Deadline expiry = Deadline::after(Milliseconds{1'000});
  worker.set_script({gate("a"), token("newer"), finish(), usage(3, 1), done()});
  Clients clients;
  for (std::size_t k = 0; k < kCallers; ++k)
    clients.push_back(std::make_unique<Client>(gateway.api()));
  std::this_thread::sleep_until(expiry.when());

  for (const auto& client : clients) client->post("/v1/chat/completions", chat_body(kFixed));
  // Whoever waits for the new answer, and whoever has got the old one: that is all of them.
  const std::string stale = R"(mlx_cache_requests_total{layer="prompt_cache",result="stale"})";
  ASSERT_TRUE(eventually([&] {
    return gateway.metric("mlx_flight_subscribers") + std::max(gateway.metric(stale), 0.0) ==
           double{kCallers};
  }));
  worker.open("a");

  std::map<std::string, std::size_t> results;
  for (const auto& client : clients) {
    const Answer answer = client->read();
    const std::string result = answer.header("x-mlx-cache");
    ++results[result];
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(result == "stale" ? "Hello" : "newer"));
  }
  EXPECT_EQ(worker.requests(), 2U);
  EXPECT_EQ(results["miss"], 1U);
  EXPECT_EQ(results["stale"] + results["coalesced"], kCallers - 1);
}

}  // namespace
}  // namespace mlxs::gateway
