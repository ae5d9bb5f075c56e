#include "gateway/flight/frames.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

api::AnswerHead head() { return {.id = "chatcmpl-1", .created = 7, .model = "m"}; }

api::Delta text(std::string content, int choice = 0) {
  api::Delta delta;
  delta.choice = choice;
  delta.text = std::move(content);
  delta.token_ids = {1};
  return delta;
}

class FramesTest : public testing::Test {
 protected:
  void write(int events, std::size_t bytes = 5) {
    for (int k = 0; k < events; ++k, ++written)
      ASSERT_TRUE(log.append(text(std::string(bytes, 'a'), written % 3)));
    log.publish();
  }
  [[nodiscard]] std::unique_ptr<FrameReader> reader() {
    return std::make_unique<FrameReader>(log, shared, false, false);
  }
  /// What a client alone would be sent.
  [[nodiscard]] std::string rendered() {
    api::StreamRenderer renderer{head(), false, false};
    std::string out;
    api::Delta delta;
    LogCursor cursor;
    while (cursor.index < log.size()) {
      log.read(cursor, delta);
      renderer.append(out, delta);
    }
    return out;
  }
  static void take_all(FrameReader& from, std::string& into) {
    for (std::string_view bytes = from.next(); !bytes.empty(); bytes = from.next()) into += bytes;
  }

  Log log{head(), 1U << 24};
  std::shared_ptr<Frames> shared = std::make_shared<Frames>(log, false, false);
  int written = 0;
};

TEST_F(FramesTest, AreTheSameBytesInMemoryForAllWhoKeepUp) {
  const auto one = reader();
  const auto two = reader();
  write(4);

  const std::string_view first = one->next();
  const std::string_view second = two->next();

  EXPECT_FALSE(first.empty());
  EXPECT_EQ(first.data(), second.data());
  EXPECT_EQ(first, rendered());
}

TEST_F(FramesTest, ALateReaderRendersForItselfUntilItHasCaughtUp) {
  const auto early = reader();
  std::string by_early;
  write(10);
  take_all(*early, by_early);
  const auto late = reader();
  std::string by_late;
  take_all(*late, by_late);
  write(3);

  const std::string_view one = early->next();
  const std::string_view two = late->next();

  EXPECT_EQ(by_early, by_late);
  EXPECT_EQ(one.data(), two.data());
  EXPECT_EQ(by_late + std::string{two}, rendered());
}

// R-COAL-3: what is kept for slow readers is bounded; they render for themselves.
TEST_F(FramesTest, AReaderFarBehindGetsEverythingInSmallPieces) {
  const auto quick = reader();
  const auto slow = reader();
  std::string by_quick;
  for (int k = 0; k < 100; ++k) {
    write(1, 4'000);
    take_all(*quick, by_quick);
  }

  std::string by_slow;
  for (std::string_view bytes = slow->next(); !bytes.empty(); bytes = slow->next()) {
    EXPECT_LT(bytes.size(), Frames::kPieceBytes + 5'000U);
    by_slow += bytes;
  }

  EXPECT_EQ(by_slow, rendered());
  EXPECT_EQ(by_quick, rendered());
}

// Readers that come, go, read or stand still in any order: each sees the stream it would see alone.
TEST_F(FramesTest, GiveEveryReaderItsOwnWholeStreamInAnyOrder) {
  std::mt19937 random{7};
  std::vector<std::pair<std::unique_ptr<FrameReader>, std::string>> readers;
  for (int step = 0; step < 3000; ++step) {
    const auto what = random() % 8;
    if (what == 0 && readers.size() < 6) {
      readers.emplace_back(reader(), "");
    } else if (what == 1 && readers.size() > 3) {
      readers.erase(readers.begin() + static_cast<std::ptrdiff_t>(random() % readers.size()));
    } else if (what < 4) {
      write(1 + static_cast<int>(random() % 3), random() % 40);
    } else if (!readers.empty()) {
      auto& [one, seen] = readers[random() % readers.size()];
      seen += one->next();
    }
  }

  const std::string all = rendered();
  for (auto& [one, seen] : readers) {
    take_all(*one, seen);
    EXPECT_EQ(seen, all);
  }
}

}  // namespace
}  // namespace mlxs::gateway
