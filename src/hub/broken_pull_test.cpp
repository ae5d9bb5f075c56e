// Pulls whose transfers break, lie or are refused.
#include "hub/testing/pull_fixture.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

namespace mlxs::hub {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class BrokenPull : public Pull {};

TEST_F(BrokenPull, GoesOnWhereverATransferBreaks) {
  const std::size_t size = sharded_model().at(kGguf).content.size();
  for (const std::size_t body_bytes : {std::size_t{0}, std::size_t{1}, size / 2, size - 1}) {
    start_gguf();
    hub_->meddle_with_storage(first(1, [&](std::string bytes) {
      return bytes.substr(0, bytes.find("\r\n\r\n") + 4 + body_bytes);
    }));

    const auto pulled = run();

    expect_gguf_is_right(pulled);
    const std::string rest = body_bytes == 0 ? "" : fmt::format("bytes={}-", body_bytes);
    EXPECT_THAT(ranges(kGguf), ElementsAre("", rest));
    EXPECT_EQ(pulled->progress.transferred, size);
    EXPECT_EQ(pulled->progress.done, size);
    fs::remove_all(cache().root());
  }
}

TEST_F(BrokenPull, GoesOnWhenAnAnswerBreaksInItsHead) {
  for (const std::size_t head_bytes : {0, 5, 40}) {
    start_gguf();
    const auto cut = [=](const std::string& bytes) { return bytes.substr(0, head_bytes); };
    hub_->meddle_with_hub(first(2, cut));
    hub_->meddle_with_storage(first(1, cut));

    expect_gguf_is_right(run());

    fs::remove_all(cache().root());
  }
}

TEST_F(BrokenPull, ABreakInEveryTransferIsNoReasonToGiveUpWhileBytesCome) {
  start_gguf();
  hub_->meddle_with_storage([](const Asked&, std::string bytes) {
    return bytes.substr(0, bytes.find("\r\n\r\n") + 4 + 5000);
  });

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), SizeIs(10));
}

TEST_F(BrokenPull, GoesOnWithWhatAnEarlierProcessLeft) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 12'345));

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_THAT(ranges(kGguf), ElementsAre("bytes=12345-"));
  EXPECT_EQ(pulled->progress.transferred, 50'000U - 12'345U);
}

TEST_F(BrokenPull, NeedsNoTransferWhenOnlyTheNameIsMissing) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content);

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), IsEmpty());
}

TEST_F(BrokenPull, WhatAnEarlierProcessLeftMayBeWrong) {
  for (const std::size_t size : {100, 50'000, 60'000}) {
    start_gguf();
    write_incomplete(kGguf, std::string(size, 'x'));

    expect_gguf_is_right(run());

    ASSERT_THAT(ranges(kGguf), Not(IsEmpty()));
    EXPECT_EQ(ranges(kGguf).back(), "");
    fs::remove_all(cache().root());
  }
}

TEST_F(BrokenPull, AWrongHashIsAnErrorAndLeavesNothing) {
  const auto flip_last = [](const Asked&, std::string bytes) {
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    return bytes;
  };
  start_gguf();
  hub_->meddle_with_storage(flip_last);

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(pulled.error().message, AllOf(HasSubstr(kGguf), HasSubstr("hash")));
  EXPECT_THAT(names_in(cache().folder("org/name")), IsEmpty());
  EXPECT_EQ(cache().find(options_.source), std::nullopt);
}

TEST_F(BrokenPull, SmallFilesAreVerifiedByTheirGitHash) {
  start(sharded_model());
  hub_->meddle_with_hub([](const Asked& asked, std::string bytes) {
    if (asked.target.ends_with("/config.json")) bytes.back() = ']';
    return bytes;
  });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kCorruptFile);
  EXPECT_THAT(pulled.error().message, HasSubstr("config.json"));
}

TEST_F(BrokenPull, AnEtagThatChangesOnTheWayBeginsTheFileAgain) {
  start_gguf();
  const TestFile other{noise(40'000, 77), true};
  hub_->meddle_with_storage(first(1, [&](std::string bytes) {
    hub_->replace(kGguf, other);
    return bytes.substr(0, bytes.size() / 2);
  }));

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_EQ(fs::read_symlink(pulled->path).filename(), other.etag());
  EXPECT_EQ(pulled->progress.done, other.content.size());
}

TEST_F(BrokenPull, AStoreWithAnotherVersionSendsAllOfItAndIsFoundOut) {
  start_gguf();
  const std::string other = noise(50'000, 78);
  auto transfers = std::make_shared<std::atomic<int>>(0);
  hub_->meddle_with_storage([=](const Asked& asked, std::string bytes) {
    const int transfer = (*transfers)++;
    if (transfer == 0) return bytes.substr(0, bytes.size() / 2);
    EXPECT_EQ(asked.header("if-range").substr(0, 14), "\"of-the-store-");
    return answer(200, other, "ETag: \"another\"\r\n");
  });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kCorruptFile);
  EXPECT_EQ(*transfers, 2);
}

TEST_F(BrokenPull, AServerWithoutRangesIsAskedForAllOfIt) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  hub_->meddle_with_storage([this](const Asked&, const std::string&) {
    return answer(200, hub_->files().at(kGguf).content);
  });

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_EQ(pulled->progress.done, 50'000U);
}

TEST_F(BrokenPull, ARangeThatIsNotTheOneAskedForIsNotTaken) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  const std::string content = hub_->files().at(kGguf).content;
  hub_->meddle_with_storage(first(1, [&](const std::string&) {
    return answer(206, content.substr(90), "Content-Range: bytes 90-49999/50000\r\n");
  }));

  expect_gguf_is_right(run());
}

TEST_F(BrokenPull, ARangeThatTheServerLacksBeginsTheFileAgain) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  hub_->meddle_with_storage(first(1, [](const std::string&) { return answer(416); }));

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), ElementsAre("bytes=100-", ""));
}

TEST_F(BrokenPull, MoreBytesThanTheFileHasAreNotTaken) {
  start_gguf();
  hub_->meddle_with_storage(first(1, [this](const std::string&) {
    return answer(200, hub_->files().at(kGguf).content + "more");
  }));

  expect_gguf_is_right(run());
}

TEST_F(BrokenPull, ABusyOrBrokenHubIsTriedAgain) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    start_gguf();
    const auto refuse = [=](const std::string&) {
      return answer(status, "later", "Retry-After: 0\r\n");
    };
    hub_->meddle_with_hub(first(2, refuse));
    hub_->meddle_with_storage(first(2, refuse));

    expect_gguf_is_right(run());

    EXPECT_THAT(ranges(kGguf), SizeIs(3));
    fs::remove_all(cache().root());
  }
}

TEST_F(BrokenPull, ASignedLinkThatExpiredIsAskedForAgain) {
  start_gguf();
  hub_->meddle_with_storage(first(1, [](const std::string&) { return answer(403); }));

  expect_gguf_is_right(run());

  EXPECT_THAT(hub_->hub().asked("/resolve/"), SizeIs(2));
}

TEST_F(BrokenPull, GivesUpOnAHubThatStaysBroken) {
  start_gguf();
  hub_->meddle_with_hub([](const Asked&, const std::string&) { return answer(503); });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(pulled.error().message, HasSubstr("503"));
  EXPECT_THAT(hub_->hub().asked(), SizeIs(options_.retries.tries_max));
}

TEST_F(BrokenPull, AHubThatAsksForTooMuchPatienceGetsNone) {
  start_gguf();
  hub_->meddle_with_hub(
      [](const Asked&, const std::string&) { return answer(429, {}, "Retry-After: 3600\r\n"); });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_THAT(pulled.error().message, HasSubstr("wait 3600 s"));
  EXPECT_THAT(hub_->hub().asked(), SizeIs(1));
}

TEST_F(BrokenPull, NobodyAtTheAddressIsAnErrorThatNamesIt) {
  options_.environment.endpoint = RawServer{[](const Asked&) { return ""; }}.url();

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(pulled.error().message, HasSubstr(options_.environment.endpoint));
}

TEST_F(BrokenPull, StoppingKeepsWhatHasCome) {
  start_gguf();
  std::atomic<bool> cancelled{false};
  hub_->meddle_with_storage([&](const Asked&, std::string bytes) {
    return bytes.substr(0, bytes.size() - 1000);  // Then the connection breaks.
  });
  options_.retries.first = options_.retries.longest = Milliseconds{3'600'000};
  options_.on_progress = [&](const PullProgress& now) { cancelled = now.done >= 49'000; };

  const auto stopped = pull(options_, cancelled);

  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(fs::file_size(incomplete(kGguf)), 49'000U);
  EXPECT_EQ(cache().find(options_.source), std::nullopt);
  hub_->meddle_with_storage({});
  options_.on_progress = {};
  expect_gguf_is_right(run());
}

}  // namespace
}  // namespace mlxs::hub
