#include "gateway/cache/answer_store.h"

#include "gateway/cache/testing/store_fixture.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::gateway {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kKiB = 1024;

// A store with a clock of its own; every answer's text is its request's canonical form.
struct TestStore {
  explicit TestStore(AnswerStore::Limits limits = {}) : store(epochs, limits) {}

  KeptAnswer answer(const std::string& name, std::size_t bytes = 0) {
    KeptAnswer kept;
    kept.fingerprint = fingerprint_of(name);
    kept.answer = std::make_shared<TextAnswer>(name, bytes);
    kept.admitted = epochs.now();
    kept.completed = now;
    return kept;
  }
  bool cache(const std::string& name, std::size_t bytes = 0) {
    KeptAnswer kept = answer(name, bytes);
    kept.dedup_ttl = 1s;
    kept.prompt_cache_ttl = 300s;
    return store.insert(std::move(kept), now);
  }
  bool dedup(const std::string& name, std::size_t bytes = 0) {
    KeptAnswer kept = answer(name, bytes);
    kept.dedup_ttl = 1s;
    return store.insert(std::move(kept), now);
  }
  std::optional<Hit> find(const std::string& name, AnswerStore::Wanted wanted = {}) {
    return store.find(*fingerprint_of(name), wanted, now);
  }
  std::uint64_t evicted(Eviction reason) {
    return store.stats().evictions[static_cast<std::size_t>(reason)];
  }
  std::size_t entries() {
    const StoreStats stats = store.stats();
    return stats.layers[0].entries + stats.layers[1].entries;
  }
  std::size_t bytes() {
    const StoreStats stats = store.stats();
    return stats.layers[0].bytes + stats.layers[1].bytes;
  }

  Epochs epochs{EpochState{}};
  AnswerStore store;
  TimePoint now{1h};
};

TEST(AnswerStore, AnAnswerIsDedupFirstAndPromptCacheAfterwards) {
  TestStore test;
  test.cache("a");

  test.now += 999ms;
  auto hit = test.find("a");
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->layer, Layer::kDedup);
  EXPECT_EQ(hit->age, 999ms);
  test.now += 1ms;
  hit = test.find("a");
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->layer, Layer::kPromptCache);
  EXPECT_FALSE(hit->stale);
  EXPECT_EQ(text_of(*hit), "a");
}

TEST(AnswerStore, LifetimesEndToTheTick) {
  TestStore test;
  test.cache("cached");
  test.dedup("deduped");

  test.now += 1s - 1ns;
  EXPECT_TRUE(test.find("deduped"));
  test.now += 1ns;
  EXPECT_FALSE(test.find("deduped"));
  test.now += 299s - 1ns;
  EXPECT_TRUE(test.find("cached"));
  test.now += 1ns;
  EXPECT_FALSE(test.find("cached"));
  EXPECT_EQ(test.evicted(Eviction::kTtl), 2U);
  EXPECT_EQ(test.entries(), 0U);
}

TEST(AnswerStore, OnlyWantedLayersServe) {
  TestStore test;
  test.cache("a");

  EXPECT_EQ(test.find("a", {.dedup = false})->layer, Layer::kPromptCache);
  EXPECT_EQ(test.find("a", {.prompt_cache = false})->layer, Layer::kDedup);
  EXPECT_FALSE(test.find("a", {.dedup = false, .prompt_cache = false}));
  test.now += 2s;
  EXPECT_FALSE(test.find("a", {.prompt_cache = false}));
  EXPECT_TRUE(test.find("a")) << "not wanting an answer does not remove it";
}

TEST(AnswerStore, WhatNoLayerTakesIsNotKept) {
  TestStore test;

  EXPECT_FALSE(test.store.insert(test.answer("a"), test.now));
  EXPECT_EQ(test.entries(), 0U);
}

// R-CACHE-2: digests that are equal by force never hand out another request's answer.
TEST(AnswerStore, EqualDigestsOfDifferentRequestsNeverMeet) {
  TestStore test;
  test.cache("a");
  Fingerprint forged = *fingerprint_of("b");
  forged.digest = sha256("a");

  EXPECT_FALSE(test.store.find(forged, {}, test.now));
  const StoreStats stats = test.store.stats();
  EXPECT_EQ(stats.collisions, 1U);
  EXPECT_EQ(stats.misses, 1U);
  EXPECT_EQ(stats.layers[0].hits + stats.layers[1].hits, 0U);
  EXPECT_TRUE(test.find("a"));

  KeptAnswer kept = test.answer("b");
  kept.fingerprint = std::make_shared<const Fingerprint>(forged);
  kept.dedup_ttl = 1s;
  test.store.insert(std::move(kept), test.now);
  EXPECT_FALSE(test.find("a"));
  EXPECT_EQ(text_of(*test.store.find(forged, {}, test.now)), "b");
}

// R-CACHE-2, at length: every pair of a hundred requests whose digests are one of ten.
TEST(AnswerStore, NoWrongAnswerInMillionsOfForcedCollisions) {
  TestStore test;
  std::vector<FingerprintPtr> requests;
  for (int i = 0; i < 100; ++i) {
    Fingerprint forged = *fingerprint_of(fmt::format("request {}", i));
    forged.digest = sha256(std::to_string(i % 10));
    requests.push_back(std::make_shared<const Fingerprint>(forged));
  }
  std::uint32_t random = 1;
  const auto next = [&] {
    random = random * 1664525U + 1013904223U;
    return requests[(random >> 16U) % requests.size()];
  };
  std::uint64_t right = 0;
  for (int i = 0; i < MLXS_FORCED_COLLISIONS; ++i) {
    if (i % 100 == 0) {
      KeptAnswer kept = test.answer("");
      kept.fingerprint = next();
      kept.answer = std::make_shared<TextAnswer>(kept.fingerprint->canonical);
      kept.prompt_cache_ttl = 300s;
      test.store.insert(std::move(kept), test.now);
    }
    const FingerprintPtr asked = next();
    const auto hit = test.store.find(*asked, {}, test.now);
    if (!hit) continue;
    ASSERT_EQ(text_of(*hit), asked->canonical);
    ++right;
  }
  EXPECT_GT(right, MLXS_FORCED_COLLISIONS / 1000U);
}

TEST(AnswerStore, TheLimitOfEntriesEvictsTheLeastRecentlyUsed) {
  TestStore test{{.entries_max = 10, .bytes_max = 100 * kKiB}};
  for (int i = 0; i < 10; ++i) test.cache(std::to_string(i));
  EXPECT_TRUE(test.find("0"));

  for (int i = 10; i < 14; ++i) test.cache(std::to_string(i));

  EXPECT_TRUE(test.find("0")) << "it was asked for again";
  for (int i = 1; i < 5; ++i) EXPECT_FALSE(test.find(std::to_string(i))) << i;
  for (int i = 5; i < 14; ++i) EXPECT_TRUE(test.find(std::to_string(i))) << i;
  EXPECT_EQ(test.evicted(Eviction::kEntries), 4U);
}

TEST(AnswerStore, TheLimitOfBytesEvictsTooAndIsNeverExceeded) {
  TestStore test{{.entries_max = 1000, .bytes_max = 100 * kKiB}};

  for (int i = 0; i < 500; ++i) {
    test.cache(std::to_string(i), 100 + static_cast<std::size_t>(i * 37 % 5000));
    ASSERT_LE(test.bytes(), 100 * kKiB);
  }

  EXPECT_GT(test.bytes(), 90 * kKiB);
  EXPECT_GT(test.evicted(Eviction::kBytes), 100U);
  EXPECT_EQ(test.evicted(Eviction::kEntries), 0U);
}

TEST(AnswerStore, AnAnswerBeyondAnEighthOfTheRoomIsNotKeptAndFlushesNothing) {
  TestStore test{{.entries_max = 1000, .bytes_max = 80 * kKiB}};
  for (int i = 0; i < 20; ++i) test.cache(std::to_string(i));

  EXPECT_FALSE(test.cache("huge", 10 * kKiB));

  EXPECT_EQ(test.entries(), 20U);
  EXPECT_EQ(test.store.stats().too_large, 1U);
  EXPECT_TRUE(test.cache("large", 9 * kKiB));
}

TEST(AnswerStore, OneTimePromptsDoNotWashOutTheOnesThatRepeat) {
  TestStore test{{.entries_max = 100, .bytes_max = 1024 * kKiB}};
  for (int i = 0; i < 50; ++i) test.cache(fmt::format("hot {}", i));
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(test.find(fmt::format("hot {}", i)));

  for (int i = 0; i < 1000; ++i) test.cache(fmt::format("once {}", i));

  for (int i = 0; i < 50; ++i) EXPECT_TRUE(test.find(fmt::format("hot {}", i))) << i;
}

TEST(AnswerStore, ProtectedAnswersLeaveRoomForNewOnes) {
  TestStore test{{.entries_max = 100, .bytes_max = 1024 * kKiB}};
  for (int i = 0; i < 100; ++i) {
    test.cache(fmt::format("hot {}", i));
    EXPECT_TRUE(test.find(fmt::format("hot {}", i)));
  }

  for (int i = 0; i < 20; ++i) test.cache(fmt::format("new {}", i));

  for (int i = 0; i < 20; ++i) EXPECT_TRUE(test.find(fmt::format("new {}", i))) << i;
}

TEST(AnswerStore, AnswersForDedupOnlyTakeAnEighthOfTheRoom) {
  TestStore test{{.entries_max = 80, .bytes_max = 1024 * kKiB}};
  for (int i = 0; i < 80; ++i) test.cache(fmt::format("cached {}", i));

  for (int i = 0; i < 1000; ++i) test.dedup(fmt::format("sampled {}", i));

  const StoreStats stats = test.store.stats();
  EXPECT_EQ(stats.layers[0].entries, 10U);
  EXPECT_EQ(stats.layers[1].entries, 70U);
  EXPECT_TRUE(test.find("sampled 999"));
  EXPECT_FALSE(test.find("sampled 989"));
}

TEST(AnswerStore, AnswersForDedupOnlyGoAsSoonAsTheyExpire) {
  TestStore test;
  for (int i = 0; i < 100; ++i) test.dedup(std::to_string(i));
  test.now += 1s;

  test.dedup("next");

  EXPECT_EQ(test.entries(), 1U);
  EXPECT_EQ(test.evicted(Eviction::kTtl), 100U);
}

TEST(AnswerStore, ANewerAnswerTakesTheOlderOnesPlace) {
  TestStore test;
  test.cache("a");
  test.now += 100s;
  test.cache("a");
  test.now += 250s;

  EXPECT_TRUE(test.find("a"));
  EXPECT_EQ(test.entries(), 1U);
  EXPECT_EQ(test.evicted(Eviction::kReplaced), 1U);
}

TEST(AnswerStore, LimitsThatShrinkMakeRoomAtOnce) {
  TestStore test{{.entries_max = 100, .bytes_max = 1024 * kKiB}};
  for (int i = 0; i < 50; ++i) test.cache(std::to_string(i), 1000);
  for (int i = 0; i < 12; ++i) test.dedup(fmt::format("sampled {}", i));

  test.store.set_limits({.entries_max = 100, .bytes_max = 20 * kKiB}, test.now);
  EXPECT_LE(test.bytes(), 20 * kKiB);
  test.store.set_limits({.entries_max = 3, .bytes_max = 20 * kKiB}, test.now);
  EXPECT_LE(test.entries(), 3U);
  test.store.set_limits({.entries_max = 1, .bytes_max = 20 * kKiB}, test.now);
  EXPECT_TRUE(test.cache("last"));
  EXPECT_EQ(test.entries(), 1U);
}

// R-CACHE-4: one caller of a thousand fetches a stale answer anew, the others get the stale one.
TEST(AnswerStore, AStaleAnswersRefreshIsHandedToOneCaller) {
  TestStore test;
  KeptAnswer kept = test.answer("a");
  kept.prompt_cache_ttl = 300s;
  kept.grace = 10s;
  test.store.insert(kept, test.now);
  test.now += 299s;
  EXPECT_FALSE(test.find("a")->stale);
  test.now += 1s;

  std::atomic<int> refreshers{0};
  std::atomic<int> stale{0};
  std::vector<RefreshClaim> claims(10);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 10; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 100; ++i) {
        auto hit = test.find("a");
        if (hit && hit->stale) ++stale;
        if (hit && hit->refresh) {
          ++refreshers;
          claims[static_cast<std::size_t>(thread)] = std::move(hit->refresh);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stale, 1000);
  EXPECT_EQ(refreshers, 1);

  claims.clear();  // the flight failed: the next caller tries
  EXPECT_TRUE(test.find("a")->refresh);
  test.now += 10s - 1ns;
  EXPECT_TRUE(test.find("a")->stale);
  test.now += 1ns;
  EXPECT_FALSE(test.find("a"));
}

TEST(AnswerStore, ARefreshedAnswerIsFreshAgain) {
  TestStore test;
  KeptAnswer kept = test.answer("a");
  kept.prompt_cache_ttl = 300s;
  kept.grace = 10s;
  test.store.insert(kept, test.now);
  test.now += 305s;
  const auto claim = test.find("a")->refresh ? 1 : 0;
  kept.completed = test.now;
  test.store.insert(kept, test.now);

  EXPECT_EQ(claim, 1);
  EXPECT_FALSE(test.find("a")->stale);
  test.now += 300s;
  EXPECT_TRUE(test.find("a")->refresh);
}

// R-CACHE-5
TEST(AnswerStore, NothingFlushedIsFoundEvenBeforeItIsRemoved) {
  TestStore test;
  test.cache("a");
  test.cache("b");

  test.epochs.flush({.kind = FlushScope::Kind::kKey, .digest = sha256("a")});

  EXPECT_FALSE(test.find("a"));
  EXPECT_TRUE(test.find("b"));
  EXPECT_EQ(test.evicted(Eviction::kFlush), 1U);
}

TEST(AnswerStore, AFlightAdmittedBeforeAFlushLeavesNothing) {
  TestStore test;
  KeptAnswer kept = test.answer("a");
  kept.prompt_cache_ttl = 300s;
  test.epochs.flush({.kind = FlushScope::Kind::kModel, .name = "m"});

  EXPECT_FALSE(test.store.insert(kept, test.now));
  EXPECT_FALSE(test.find("a"));
  EXPECT_EQ(test.evicted(Eviction::kEpoch), 1U);
}

TEST(AnswerStore, AFlushAlsoCoversStaleAnswers) {
  TestStore test;
  KeptAnswer kept = test.answer("a");
  kept.prompt_cache_ttl = 1s;
  kept.grace = 100s;
  test.store.insert(kept, test.now);
  test.now += 2s;
  ASSERT_TRUE(test.find("a")->stale);

  test.epochs.flush({});

  EXPECT_FALSE(test.find("a"));
}

TEST(AnswerStore, SweepsRemoveWhatWasFlushedAndWhatExpired) {
  TestStore test;
  for (int i = 0; i < 5000; ++i) test.cache(std::to_string(i));
  test.epochs.flush({});
  for (int i = 5000; i < 6000; ++i) test.cache(std::to_string(i));

  test.store.drop_flushed();
  EXPECT_EQ(test.entries(), 1000U);
  EXPECT_EQ(test.evicted(Eviction::kFlush), 5000U);

  test.now += 300s;
  for (int i = 0; i < 100 && test.entries() > 0; ++i) test.store.drop_expired(1024, test.now);
  EXPECT_EQ(test.entries(), 0U);
  EXPECT_EQ(test.evicted(Eviction::kTtl), 1000U);
}

TEST(AnswerStore, AnAnswerInUseOutlivesItsEntry) {
  TestStore test;
  test.cache("a");
  const auto hit = test.find("a");
  test.epochs.flush({});
  test.store.drop_flushed();

  EXPECT_EQ(text_of(*hit), "a");
}

TEST(AnswerStore, ThePromptCacheIsListedLeastRecentlyUsedFirst) {
  TestStore test;
  for (const char* name : {"a", "b", "c"}) test.cache(name);
  test.dedup("sampled");
  (void)test.find("a");

  std::string order;
  for (const KeptAnswer& kept : test.store.prompt_cache(test.now))
    order += kept.fingerprint->canonical;

  EXPECT_EQ(order, "bca");
}

TEST(AnswerStore, StatisticsAreKeptPerModel) {
  TestStore test;
  test.cache("a");
  (void)test.find("a");
  (void)test.find("b");

  const StoreStats stats = test.store.stats();

  EXPECT_EQ(stats.models.at("m").layers[1].entries, 1U);
  EXPECT_EQ(stats.models.at("m").layers[0].hits, 1U);
  EXPECT_EQ(stats.models.at("m").misses, 1U);
  EXPECT_EQ(stats.inserted, 1U);
}

// R-CACHE-3: bounds and counts are exact after any sequence of operations.
RC_GTEST_PROP(AnswerStoreProperty, BoundsAndCountsHoldAfterEveryOperation, ()) {
  const AnswerStore::Limits limits{
      .entries_max = *rc::gen::inRange<std::size_t>(1, 40),
      .bytes_max = *rc::gen::inRange<std::size_t>(4 * kKiB, 64 * kKiB)};
  TestStore test{limits};
  std::uint64_t finds = 0;
  const int operations = *rc::gen::inRange(1, 400);
  for (int i = 0; i < operations; ++i) {
    const std::string name = std::to_string(*rc::gen::inRange(0, 60));
    switch (*rc::gen::inRange(0, 10)) {
      case 0:
        test.now += *rc::gen::inRange(0, 400) * 1s;
        break;
      case 1:
        test.epochs.flush({.kind = FlushScope::Kind::kKey, .digest = sha256(name)});
        break;
      case 2:
        test.dedup(name, *rc::gen::inRange<std::size_t>(1, 12 * kKiB));
        break;
      case 3:
        test.store.drop_expired(10, test.now);
        break;
      case 4:
      case 5:
      case 6:
        test.cache(name, *rc::gen::inRange<std::size_t>(1, 12 * kKiB));
        break;
      default: {
        ++finds;
        const auto hit = test.find(name);
        // RC_ASSERT takes an expression apart and would evaluate both sides of an `||`.
        const bool right = !hit || text_of(*hit) == name;
        RC_ASSERT(right);
      }
    }
    const StoreStats stats = test.store.stats();
    const std::size_t entries = stats.layers[0].entries + stats.layers[1].entries;
    std::uint64_t gone = 0;
    for (const Eviction reason : kEvictions)
      if (reason != Eviction::kEpoch) gone += stats.evictions[static_cast<std::size_t>(reason)];
    RC_ASSERT(entries <= limits.entries_max);
    RC_ASSERT(stats.layers[0].bytes + stats.layers[1].bytes <= limits.bytes_max);
    RC_ASSERT(stats.inserted == gone + entries);
    RC_ASSERT(stats.misses + stats.layers[0].hits + stats.layers[1].hits == finds);
    if (entries == 0) RC_ASSERT(stats.layers[0].bytes + stats.layers[1].bytes == 0U);
  }
}

TEST(AnswerStore, CountsAreExactAfterAllThreadsAreDone) {
  TestStore test{{.entries_max = 50, .bytes_max = 100 * kKiB}};
  std::atomic<std::uint64_t> hits{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::uint32_t random = static_cast<std::uint32_t>(thread) + 1;
      for (int i = 0; i < 5000; ++i) {
        random = random * 1664525U + 1013904223U;
        const std::string name = std::to_string((random >> 16U) % 100);
        if (i % 500 == 499) {
          test.epochs.flush({.kind = FlushScope::Kind::kKey, .digest = sha256(name)});
          test.store.drop_flushed();
        }
        if (const auto hit = test.find(name)) {
          ++hits;
          EXPECT_EQ(text_of(*hit), name);
        } else {
          test.cache(name, (random >> 8U) % 4000);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  const StoreStats stats = test.store.stats();
  EXPECT_EQ(stats.layers[0].hits + stats.layers[1].hits, hits);
  EXPECT_EQ(stats.misses + hits, 20'000U);
  std::uint64_t gone = 0;
  for (const Eviction reason : kEvictions)
    if (reason != Eviction::kEpoch) gone += stats.evictions[static_cast<std::size_t>(reason)];
  EXPECT_EQ(stats.inserted, gone + stats.layers[1].entries);
  EXPECT_LE(test.bytes(), 100 * kKiB);
}

}  // namespace
}  // namespace mlxs::gateway
