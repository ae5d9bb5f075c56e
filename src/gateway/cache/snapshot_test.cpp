#include "gateway/cache/snapshot.h"

#include "gateway/cache/durable_file.h"
#include "gateway/cache/epoch_file.h"
#include "gateway/cache/testing/store_fixture.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <string>

namespace mlxs::gateway {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

const AnswerCodec kTexts{
    .encode = [](const StoredAnswer& answer,
                 std::string& out) { out += static_cast<const TextAnswer&>(answer).text(); },
    .decode = [](std::string_view bytes) -> StoredAnswerPtr {
      if (bytes == "not an answer") return nullptr;
      return std::make_shared<TextAnswer>(std::string{bytes});
    }};

// A process with a cache; the next one begins with what is on the disk and a clock of its own.
struct Process {
  Process(const std::filesystem::path& folder, Moment start, AnswerStore::Limits limits = {})
      : path(folder / "snapshot"),
        epoch_file(folder),
        epochs(epoch_file.load().value()),
        store(epochs, limits),
        now(start) {}

  void cache(const std::string& name, Clock::duration ttl = 300s, Clock::duration grace = 0s) {
    KeptAnswer kept;
    kept.fingerprint = fingerprint_of(name);
    kept.answer = std::make_shared<TextAnswer>("answer to " + name);
    kept.admitted = epochs.now();
    kept.completed = now.steady;
    kept.dedup_ttl = 1s;
    kept.prompt_cache_ttl = ttl;
    kept.grace = grace;
    ASSERT_TRUE(store.insert(std::move(kept), now.steady));
  }
  std::optional<Hit> find(const std::string& name) {
    return store.find(*fingerprint_of(name), {}, now.steady);
  }
  void pass(Clock::duration time) {
    now.steady += time;
    now.wall += time;
  }
  Result<SnapshotCount> save() {
    MLXS_TRY(epoch_file.save(epochs));
    return write_snapshot(path, store, epochs, kTexts, now);
  }
  Result<SnapshotCount> load(Clock::duration ttl_max = 300s) {
    return load_snapshot(path, store, epochs, kTexts, ttl_max, now);
  }
  std::size_t entries() {
    const StoreStats stats = store.stats();
    return stats.layers[0].entries + stats.layers[1].entries;
  }

  std::filesystem::path path;
  EpochFile epoch_file;
  Epochs epochs;
  AnswerStore store;
  Moment now;
};

class Snapshot : public testing::Test {
 protected:
  // After a restart that took `time`; the steady clock starts anew, as after a boot.
  Process next(const Process& last, Clock::duration time, AnswerStore::Limits limits = {}) {
    return Process{folder_.path(), {TimePoint{5h}, last.now.wall + time}, limits};
  }
  std::string bytes() { return read_file(folder_.path() / "snapshot", 1U << 24).value(); }
  void damage(const std::string& with) {
    std::ofstream{folder_.path() / "snapshot", std::ios::binary} << with;
  }

  TemporaryFolder folder_;
  Process first_{folder_.path(), {TimePoint{1h}, std::chrono::system_clock::now()}};
};

TEST_F(Snapshot, EntriesComeBackWithTheirAgeAndTheirOrder) {
  for (const char* name : {"a", "b", "c"}) first_.cache(name);
  first_.pass(100s);
  (void)first_.find("a");
  ASSERT_EQ(first_.save()->entries, 3U);

  Process second = next(first_, 50s);
  ASSERT_EQ(second.load()->entries, 3U);

  const auto hit = second.find("a");
  ASSERT_TRUE(hit);
  EXPECT_EQ(text_of(*hit), "answer to a");
  EXPECT_EQ(hit->layer, Layer::kPromptCache);
  EXPECT_LT(std::chrono::abs(hit->age - 150s), 2ms);
  std::string order;
  for (const KeptAnswer& kept : second.store.prompt_cache(second.now.steady))
    order += kept.fingerprint->canonical;
  EXPECT_EQ(order, "bca");
}

TEST_F(Snapshot, WhatExpiredMeanwhileByTheWallClockStaysAway) {
  first_.cache("short", 60s);
  first_.cache("long", 300s);
  first_.cache("foreign", 60s, 60s);
  ASSERT_TRUE(first_.save());

  Process second = next(first_, 61s);
  const auto count = second.load();

  EXPECT_EQ(count->entries, 2U);
  EXPECT_EQ(count->left_out, 1U);
  EXPECT_FALSE(second.find("short"));
  EXPECT_FALSE(second.find("long")->stale);
  EXPECT_TRUE(second.find("foreign")->stale);
}

TEST_F(Snapshot, AShorterLifetimeInTheConfigurationCounts) {
  first_.cache("a");
  ASSERT_TRUE(first_.save());

  Process second = next(first_, 20s);

  EXPECT_EQ(second.load(10s)->entries, 0U);
}

// R-CACHE-5: a snapshot written before a flush does not bring anything back.
TEST_F(Snapshot, WhatWasFlushedAfterItWasWrittenStaysAway) {
  first_.cache("a");
  first_.cache("b");
  ASSERT_TRUE(first_.save());
  first_.epochs.flush({.kind = FlushScope::Kind::kKey, .digest = sha256("a")});
  ASSERT_TRUE(first_.epoch_file.save(first_.epochs));

  Process second = next(first_, 1s);
  ASSERT_EQ(second.load()->entries, 1U);

  EXPECT_FALSE(second.find("a"));
  EXPECT_TRUE(second.find("b"));
}

TEST_F(Snapshot, WithoutItsEpochsItIsRefused) {
  first_.cache("a");
  ASSERT_TRUE(first_.save());
  std::filesystem::remove(folder_.path() / "epochs");

  Process second = next(first_, 1s);
  const auto loaded = second.load();

  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(loaded.error().message, HasSubstr("flushes"));
  EXPECT_EQ(second.entries(), 0U);
}

TEST_F(Snapshot, ItIsLoadedWithinTheLimitsTheMostRecentlyUsedFirst) {
  for (int i = 0; i < 20; ++i) first_.cache(std::to_string(i));
  ASSERT_TRUE(first_.save());

  Process second = next(first_, 1s, {.entries_max = 5, .bytes_max = 1U << 20});
  ASSERT_TRUE(second.load());

  EXPECT_EQ(second.entries(), 5U);
  for (int i = 15; i < 20; ++i) EXPECT_TRUE(second.find(std::to_string(i))) << i;
}

TEST_F(Snapshot, ANewerAnswerThatIsThereAlreadyStays) {
  first_.cache("a");
  ASSERT_TRUE(first_.save());
  Process second = next(first_, 100s);
  second.cache("a");

  ASSERT_EQ(second.load()->left_out, 1U);

  EXPECT_EQ(second.find("a")->age, 0s);
}

TEST_F(Snapshot, FromTheFutureItIsRefused) {
  first_.cache("a");
  ASSERT_TRUE(first_.save());

  Process second = next(first_, -60s);

  EXPECT_THAT(second.load().error().message, HasSubstr("future"));
}

TEST_F(Snapshot, WithoutAFileThereIsNothingToLoad) {
  EXPECT_EQ(first_.load().error().code, ErrorCode::kNotFound);
}

TEST_F(Snapshot, AnotherVersionIsRefusedByName) {
  first_.cache("a");
  ASSERT_TRUE(first_.save());
  std::string other = bytes();
  other[8] = 2;
  damage(other);

  Process second = next(first_, 1s);

  EXPECT_THAT(second.load().error().message, HasSubstr("version is 2, this program reads 1"));
  EXPECT_EQ(second.entries(), 0U);
}

TEST_F(Snapshot, SomethingElseUnderItsNameIsRefused) {
  for (const char* text : {"", "x", "MLXSKEPT", "{\"not\": \"a snapshot\"}"}) {
    damage(text);
    EXPECT_EQ(first_.load().error().code, ErrorCode::kCorruptFile) << text;
  }
}

TEST_F(Snapshot, EveryTruncationIsRefusedWithAnEmptyCache) {
  for (const char* name : {"a", "b", "c"}) first_.cache(name);
  ASSERT_TRUE(first_.save());
  const std::string whole = bytes();

  for (std::size_t size = 0; size < whole.size(); ++size) {
    damage(whole.substr(0, size));
    Process second = next(first_, 1s);
    ASSERT_EQ(second.load().error().code, ErrorCode::kCorruptFile) << size;
    ASSERT_EQ(second.entries(), 0U) << size;
  }
  damage(whole + "x");
  EXPECT_FALSE(first_.load());
}

TEST_F(Snapshot, EveryFlippedByteIsRefusedWithAnEmptyCache) {
  for (const char* name : {"a", "b", "c"}) first_.cache(name);
  ASSERT_TRUE(first_.save());
  const std::string whole = bytes();

  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1U << at % 8));
    damage(flipped);
    Process second = next(first_, 1s);
    ASSERT_EQ(second.load().error().code, ErrorCode::kCorruptFile) << at;
    ASSERT_EQ(second.entries(), 0U) << at;
  }
}

TEST_F(Snapshot, AnAnswerThatCannotBeReadIsLeftOut) {
  KeptAnswer kept;
  kept.fingerprint = fingerprint_of("a");
  kept.answer = std::make_shared<TextAnswer>("not an answer");
  kept.completed = first_.now.steady;
  kept.prompt_cache_ttl = 300s;
  ASSERT_TRUE(first_.store.insert(kept, first_.now.steady));
  first_.cache("b");
  ASSERT_TRUE(first_.save());

  Process second = next(first_, 1s);

  EXPECT_EQ(second.load()->left_out, 1U);
  EXPECT_TRUE(second.find("b"));
}

TEST_F(Snapshot, AFolderThatCannotBeWrittenIsAnErrorAndTheOldFileStays) {
  first_.cache("a");
  const auto written =
      write_snapshot("/proc/nowhere/snapshot", first_.store, first_.epochs, kTexts, first_.now);

  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace mlxs::gateway
