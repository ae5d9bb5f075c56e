#include "gateway/cache/epochs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace mlxs::gateway {
namespace {

using Kind = FlushScope::Kind;

Fingerprint subject(const std::string& tenant, const std::string& model, const std::string& text) {
  return {.digest = sha256(text), .canonical = text, .tenant = tenant, .model = model};
}

TEST(Epochs, AFlushCoversWhatWasAdmittedBeforeItAndNothingLater) {
  Epochs epochs{{}};
  const Fingerprint one = subject("ann", "m", "one");
  const Stamp before = epochs.now();
  EXPECT_TRUE(epochs.fresh(before, one));

  epochs.flush({});

  EXPECT_FALSE(epochs.fresh(before, one));
  EXPECT_TRUE(epochs.fresh(epochs.now(), one));
}

TEST(Epochs, EachScopeCoversItsOwnOnly) {
  struct Case {
    FlushScope scope;
    bool ann_m_one, bob_m_one, ann_n_one, ann_m_two;
  };
  const Case cases[] = {
      {{.kind = Kind::kAll}, false, false, false, false},
      {{.kind = Kind::kTenant, .name = "ann"}, false, true, false, false},
      {{.kind = Kind::kModel, .name = "m"}, false, false, true, false},
      {{.kind = Kind::kKey, .digest = sha256("one")}, false, false, false, true},
  };
  for (const Case& expected : cases) {
    Epochs epochs{{}};
    const Stamp before = epochs.now();

    epochs.flush(expected.scope);

    EXPECT_EQ(epochs.fresh(before, subject("ann", "m", "one")), expected.ann_m_one);
    EXPECT_EQ(epochs.fresh(before, subject("bob", "m", "one")), expected.bob_m_one);
    EXPECT_EQ(epochs.fresh(before, subject("ann", "n", "one")), expected.ann_n_one);
    EXPECT_EQ(epochs.fresh(before, subject("ann", "m", "two")), expected.ann_m_two);
  }
}

TEST(Epochs, TooManyScopesFlushMoreNotLess) {
  Epochs epochs{{}};
  const Stamp before = epochs.now();
  for (std::size_t i = 0; i <= EpochState::kScopesMax; ++i)
    epochs.flush({.kind = Kind::kKey, .digest = sha256(std::to_string(i))});

  EXPECT_LE(epochs.state().keys.size(), EpochState::kScopesMax);
  for (std::size_t i = 0; i <= EpochState::kScopesMax; ++i)
    EXPECT_FALSE(epochs.fresh(before, subject("", "m", std::to_string(i)))) << i;
  EXPECT_TRUE(epochs.fresh(epochs.now(), subject("", "m", "0")));
}

TEST(Epochs, MergedHistoriesKeepTheFlushesOfBoth) {
  EpochState other{.lineage = "theirs"};
  other.flush({.kind = Kind::kModel, .name = "n"});
  other.flush({.kind = Kind::kTenant, .name = "ann"});
  Epochs epochs{{.lineage = "ours"}};
  const Stamp before = epochs.now();
  epochs.flush({.kind = Kind::kModel, .name = "m"});

  epochs.merge(other);

  EXPECT_FALSE(epochs.fresh(before, subject("bob", "m", "x")));
  EXPECT_FALSE(epochs.fresh(before, subject("bob", "n", "x")));
  EXPECT_FALSE(epochs.fresh(before, subject("ann", "o", "x")));
  EXPECT_TRUE(epochs.fresh(before, subject("bob", "o", "x")));
  EXPECT_EQ(epochs.state().lineage, "theirs");
  EXPECT_EQ(epochs.state().count, 2U);
}

TEST(Epochs, AFlushIsSeenByEveryThreadOnceItReturned) {
  Epochs epochs{{}};
  const Fingerprint one = subject("ann", "m", "one");
  std::atomic<std::uint64_t> flushed{0};
  std::atomic<bool> done{false};
  std::thread reader{[&] {
    while (!done) {
      const std::uint64_t known = flushed.load();
      if (known > 0) {
        EXPECT_FALSE(epochs.fresh(Stamp{known - 1}, one));
      }
    }
  }};
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    epochs.flush({.kind = Kind::kTenant, .name = "ann"});
    flushed = i;
  }
  done = true;
  reader.join();
}

}  // namespace
}  // namespace mlxs::gateway
