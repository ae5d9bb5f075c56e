// Whole pulls against a hub and a storage of their own sockets.
#include "hub/pull.h"

#include "hub/cache.h"
#include "hub/testing/test_hub.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kShard = "model-00001-of-00002.safetensors";
constexpr const char* kGguf = "name.Q4_1.gguf";
const std::atomic<bool> kNever{false};

std::string content_of(const fs::path& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator{folder, ignored}) {
    if (!entry.is_directory()) names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::ranges::sort(names);
  return names;
}

class Pull : public ::testing::Test {
 protected:
  Pull() {
    std::string path = ::testing::TempDir() + "mlxs-hub-XXXXXX";
    folder_ = ::mkdtemp(path.data());
    options_.source = *parse_source("org/name");
    options_.environment.cache = folder_ / "hub";
    options_.retries = {.tries_max = 4, .first = Milliseconds{1}, .longest = Milliseconds{4}};
  }
  ~Pull() override { fs::remove_all(folder_); }

  void start(std::map<std::string, TestFile> files) {
    hub_ = std::make_unique<TestHub>(std::move(files));
    options_.environment.endpoint = hub_->hub().url();
  }
  void start_gguf() {
    start(sharded_model());
    options_.source.file = kGguf;
  }

  Result<Pulled> run() const { return pull(options_, kNever); }
  [[nodiscard]] Cache cache() const { return Cache{options_.environment.cache}; }
  [[nodiscard]] fs::path blob(const std::string& file) const {
    return cache().blob("org/name", hub_->files().at(file).etag());
  }
  [[nodiscard]] fs::path incomplete(const std::string& file) const {
    return blob(file).string() + ".incomplete";
  }
  void write_incomplete(const std::string& file, const std::string& bytes) const {
    fs::create_directories(blob(file).parent_path());
    std::ofstream{incomplete(file), std::ios::binary} << bytes;
  }
  /// What storage was asked for of `file`, as ranges ("" for all of it).
  [[nodiscard]] std::vector<std::string> ranges(const std::string& file) const {
    std::vector<std::string> found;
    for (const Asked& asked : hub_->storage().asked(file)) found.push_back(asked.header("range"));
    return found;
  }
  void expect_gguf_is_right(const Result<Pulled>& pulled) const {
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_TRUE(content_of(pulled->path) == hub_->files().at(kGguf).content);
    EXPECT_FALSE(fs::exists(incomplete(kGguf)));
  }

  fs::path folder_;
  std::unique_ptr<TestHub> hub_;
  PullOptions options_;
};

/// Meddles with the first answers only.
TestHub::Meddle first(int count, const std::function<std::string(std::string)>& change) {
  auto left = std::make_shared<std::atomic<int>>(count);
  return [left, change](const Asked&, std::string bytes) {
    return (*left)-- > 0 ? change(std::move(bytes)) : bytes;
  };
}

TEST_F(Pull, BringsWhatAnEngineNeedsInTheLayoutOfTheHubsOwnTools) {
  start(sharded_model());

  const auto pulled = run();

  ASSERT_TRUE(pulled) << pulled.error().message;
  const fs::path root = cache().folder("org/name");
  EXPECT_EQ(root.filename(), "models--org--name");
  EXPECT_EQ(pulled->path, root / "snapshots" / TestHub::kCommit);
  EXPECT_THAT(names_in(pulled->path),
              ElementsAre("chat_template.jinja",
                          "config.json",
                          "generation_config.json",
                          kShard,
                          "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json",
                          "tokenizer.json",
                          "tokenizer_config.json"));
  for (const std::string& name : names_in(pulled->path)) {
    const TestFile file = hub_->files().at(name);
    EXPECT_EQ(fs::read_symlink(pulled->path / name), fs::path{"../../blobs"} / file.etag());
    EXPECT_TRUE(content_of(pulled->path / name) == file.content) << name;
  }
  EXPECT_EQ(content_of(root / "refs/main"), TestHub::kCommit);
  EXPECT_EQ(pulled->commit, TestHub::kCommit);
  EXPECT_EQ(pulled->files, 8U);
  EXPECT_THAT(names_in(root / "blobs"), SizeIs(7));  // Two of the files are equal.
  EXPECT_EQ(cache().find(options_.source), pulled->path);
}

TEST_F(Pull, ASecondPullAsksForTheListOnly) {
  start(sharded_model());
  ASSERT_TRUE(run());
  const std::size_t before = hub_->hub().asked().size() + hub_->storage().asked().size();

  const auto again = run();

  ASSERT_TRUE(again);
  EXPECT_EQ(again->progress.transferred, 0U);
  EXPECT_EQ(again->progress.done, again->progress.total);
  EXPECT_EQ(hub_->hub().asked().size() + hub_->storage().asked().size(), before + 1);
}

TEST_F(Pull, GoesOnWhereverATransferBreaks) {
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

TEST_F(Pull, GoesOnWhenAnAnswerBreaksInItsHead) {
  for (const std::size_t head_bytes : {0, 5, 40}) {
    start_gguf();
    const auto cut = [=](const std::string& bytes) { return bytes.substr(0, head_bytes); };
    hub_->meddle_with_hub(first(2, cut));
    hub_->meddle_with_storage(first(1, cut));

    expect_gguf_is_right(run());

    fs::remove_all(cache().root());
  }
}

TEST_F(Pull, ABreakInEveryTransferIsNoReasonToGiveUpWhileBytesCome) {
  start_gguf();
  hub_->meddle_with_storage([](const Asked&, std::string bytes) {
    return bytes.substr(0, bytes.find("\r\n\r\n") + 4 + 5000);
  });

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), SizeIs(10));
}

TEST_F(Pull, GoesOnWithWhatAnEarlierProcessLeft) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 12'345));

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_THAT(ranges(kGguf), ElementsAre("bytes=12345-"));
  EXPECT_EQ(pulled->progress.transferred, 50'000U - 12'345U);
}

TEST_F(Pull, NeedsNoTransferWhenOnlyTheNameIsMissing) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content);

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), IsEmpty());
}

TEST_F(Pull, WhatAnEarlierProcessLeftMayBeWrong) {
  for (const std::size_t size : {100, 50'000, 60'000}) {
    start_gguf();
    write_incomplete(kGguf, std::string(size, 'x'));

    expect_gguf_is_right(run());

    EXPECT_EQ(ranges(kGguf).back(), "");
    fs::remove_all(cache().root());
  }
}

TEST_F(Pull, AWrongHashIsAnErrorAndLeavesNothing) {
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

TEST_F(Pull, SmallFilesAreVerifiedByTheirGitHash) {
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

TEST_F(Pull, AnEtagThatChangesOnTheWayBeginsTheFileAgain) {
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

TEST_F(Pull, AStoreWithAnotherVersionSendsAllOfItAndIsFoundOut) {
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

TEST_F(Pull, AServerWithoutRangesIsAskedForAllOfIt) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  hub_->meddle_with_storage([this](const Asked&, const std::string&) {
    return answer(200, hub_->files().at(kGguf).content);
  });

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_EQ(pulled->progress.done, 50'000U);
}

TEST_F(Pull, ARangeThatIsNotTheOneAskedForIsNotTaken) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  const std::string& content = hub_->files().at(kGguf).content;
  hub_->meddle_with_storage(first(1, [&](const std::string&) {
    return answer(206, content.substr(90), "Content-Range: bytes 90-49999/50000\r\n");
  }));

  expect_gguf_is_right(run());
}

TEST_F(Pull, ARangeThatTheServerLacksBeginsTheFileAgain) {
  start_gguf();
  write_incomplete(kGguf, hub_->files().at(kGguf).content.substr(0, 100));
  hub_->meddle_with_storage(first(1, [](const std::string&) { return answer(416); }));

  expect_gguf_is_right(run());

  EXPECT_THAT(ranges(kGguf), ElementsAre("bytes=100-", ""));
}

TEST_F(Pull, MoreBytesThanTheFileHasAreNotTaken) {
  start_gguf();
  hub_->meddle_with_storage(first(1, [this](const std::string&) {
    return answer(200, hub_->files().at(kGguf).content + "more");
  }));

  expect_gguf_is_right(run());
}

TEST_F(Pull, TheTokenGoesToTheHubAndNowhereElse) {
  start_gguf();
  options_.environment.token = "hf_secret";

  ASSERT_TRUE(run());

  ASSERT_THAT(hub_->hub().asked(), SizeIs(2));
  for (const Asked& asked : hub_->hub().asked())
    EXPECT_EQ(asked.header("authorization"), "Bearer hf_secret") << asked.target;
  ASSERT_THAT(hub_->storage().asked(), SizeIs(1));
  EXPECT_FALSE(hub_->storage().asked()[0].headers.contains("authorization"));
}

TEST_F(Pull, ARepositoryThatMovedIsFollowedWithTheToken) {
  start_gguf();
  options_.environment.token = "hf_secret";
  options_.source = *parse_source("old/place:name.Q4_1.gguf");
  hub_->meddle_with_hub([](const Asked& asked, std::string bytes) {
    std::string target = asked.target;
    const std::size_t at = target.find("old/place");
    if (at == std::string::npos) return bytes;
    return answer(307, {}, "Location: " + target.replace(at, 9, "org/name") + "\r\n");
  });

  const auto pulled = run();

  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_THAT(pulled->path.string(), HasSubstr("models--old--place"));
  for (const Asked& asked : hub_->hub().asked())
    EXPECT_EQ(asked.header("authorization"), "Bearer hf_secret") << asked.target;
}

struct Refused {
  int status;
  const char* code;
  bool token;
  ErrorCode error;
  const char* words;
};

TEST_F(Pull, ARefusalSaysWhatToDoAndIsNotTriedAgain) {
  for (const Refused& one : {
           Refused{401, "RepoNotFound", false, ErrorCode::kUnauthorized, "set HF_TOKEN"},
           Refused{401, "", false, ErrorCode::kUnauthorized, "no repository org/name"},
           Refused{401, "", true, ErrorCode::kUnauthorized, "does not accept the token"},
           Refused{401, "GatedRepo", false, ErrorCode::kForbidden, "accept its conditions"},
           Refused{403, "GatedRepo", true, ErrorCode::kForbidden, "/org/name"},
           Refused{403, "", true, ErrorCode::kForbidden, "lacks the permission"},
           Refused{404, "RepoNotFound", true, ErrorCode::kNotFound, "no repository org/name"},
           Refused{404, "RevisionNotFound", false, ErrorCode::kNotFound, "no revision v2"},
           Refused{418, "", false, ErrorCode::kIo, "418"},
       }) {
    start(sharded_model());
    options_.source.revision = "v2";
    options_.environment.token = one.token ? "hf_secret" : "";
    hub_->meddle_with_hub([&](const Asked&, const std::string&) {
      return answer(one.status, "no", fmt::format("X-Error-Code: {}\r\n", one.code));
    });

    const auto pulled = run();

    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code, one.error) << pulled.error().message;
    EXPECT_THAT(pulled.error().message, HasSubstr(one.words));
    EXPECT_THAT(pulled.error().message, Not(HasSubstr("hf_secret")));
    EXPECT_THAT(hub_->hub().asked(), SizeIs(1));
  }
}

TEST_F(Pull, ABusyOrBrokenHubIsTriedAgain) {
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

TEST_F(Pull, ASignedLinkThatExpiredIsAskedForAgain) {
  start_gguf();
  hub_->meddle_with_storage(first(1, [](const std::string&) { return answer(403); }));

  expect_gguf_is_right(run());

  EXPECT_THAT(hub_->hub().asked("/resolve/"), SizeIs(2));
}

TEST_F(Pull, GivesUpOnAHubThatStaysBroken) {
  start_gguf();
  hub_->meddle_with_hub([](const Asked&, const std::string&) { return answer(503); });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(pulled.error().message, HasSubstr("503"));
  EXPECT_THAT(hub_->hub().asked(), SizeIs(options_.retries.tries_max));
}

TEST_F(Pull, AHubThatAsksForTooMuchPatienceGetsNone) {
  start_gguf();
  hub_->meddle_with_hub(
      [](const Asked&, const std::string&) { return answer(429, {}, "Retry-After: 3600\r\n"); });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_THAT(pulled.error().message, HasSubstr("wait 3600 s"));
  EXPECT_THAT(hub_->hub().asked(), SizeIs(1));
}

TEST_F(Pull, NobodyAtTheAddressIsAnErrorThatNamesIt) {
  options_.environment.endpoint = RawServer{[](const Asked&) { return ""; }}.url();

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(pulled.error().message, HasSubstr(options_.environment.endpoint));
}

TEST_F(Pull, TwoAtOnceShareTheWork) {
  start(sharded_model());

  auto one = std::async(std::launch::async, [this] { return run(); });
  auto other = std::async(std::launch::async, [this] { return run(); });
  const auto first_pulled = one.get();
  const auto second_pulled = other.get();

  ASSERT_TRUE(first_pulled && second_pulled);
  EXPECT_EQ(first_pulled->path, second_pulled->path);
  EXPECT_THAT(ranges(kShard), ElementsAre(""));
  EXPECT_EQ(first_pulled->progress.transferred + second_pulled->progress.transferred,
            first_pulled->progress.total - 2);  // Two files of two bytes are equal.
}

TEST_F(Pull, FetchesNoMoreFilesAtATimeThanItMay) {
  for (const int jobs : {1, 3}) {
    start(sharded_model());
    options_.jobs = jobs;

    ASSERT_TRUE(run());

    EXPECT_LE(hub_->hub().most_at_once(), jobs);
    EXPECT_LE(hub_->storage().most_at_once(), jobs);
    fs::remove_all(cache().root());
  }
}

TEST_F(Pull, TwoJobsFetchTwoFilesAtATime) {
  start(sharded_model());
  options_.jobs = 2;
  std::atomic<int> there{0};
  hub_->meddle_with_storage([&](const Asked& asked, std::string bytes) {
    if (asked.target.find("model-0") == std::string::npos) return bytes;
    // Neither shard comes before both have been asked for.
    ++there;
    for (int look = 0; there < 2 && look < 10'000; ++look)
      std::this_thread::sleep_for(Milliseconds{1});
    return bytes;
  });

  ASSERT_TRUE(run());

  EXPECT_EQ(there, 2);
}

TEST_F(Pull, StoppingKeepsWhatHasCome) {
  start_gguf();
  std::atomic<bool> cancelled{false};
  hub_->meddle_with_storage([&](const Asked&, std::string bytes) {
    return bytes.substr(0, bytes.size() - 1000);  // Then the connection breaks.
  });
  options_.retries.first = options_.retries.longest = Milliseconds{3'600'000};
  options_.on_progress = [&](const PullProgress& now) { cancelled = now.done > 1000; };

  const auto stopped = pull(options_, cancelled);

  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(fs::file_size(incomplete(kGguf)), 49'000U);
  EXPECT_EQ(cache().find(options_.source), std::nullopt);
  hub_->meddle_with_storage({});
  options_.on_progress = {};
  expect_gguf_is_right(run());
}

TEST_F(Pull, AFailedUpdateLeavesTheOldVersionInPlace) {
  start(sharded_model());
  const std::string old(40, 'a');
  ASSERT_TRUE(cache().set_commit(options_.source, old));
  hub_->meddle_with_storage([](const Asked& asked, std::string bytes) {
    return asked.target.find("model-00002") == std::string::npos ? bytes : answer(404);
  });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(cache().commit_of(options_.source), old);
  EXPECT_EQ(cache().find({.repository = "org/name", .revision = TestHub::kCommit}), std::nullopt);
}

TEST_F(Pull, ABranchIsWrittenDownAndACommitNeedsNoWord) {
  start(sharded_model());
  options_.source.revision = "refs/pr/1";
  ASSERT_TRUE(run());
  EXPECT_THAT(hub_->hub().asked("/revision/refs%2Fpr%2F1?blobs=true"), SizeIs(1));
  options_.source.revision = TestHub::kCommit;
  ASSERT_TRUE(run());

  EXPECT_THAT(names_in(cache().folder("org/name") / "refs"), ElementsAre("refs/pr/1"));
  EXPECT_TRUE(cache().find({.repository = "org/name", .revision = "refs/pr/1"}));
  EXPECT_FALSE(cache().find({.repository = "org/name"}));
}

TEST_F(Pull, AGgufIsPulledAlone) {
  start_gguf();

  const auto pulled = run();

  expect_gguf_is_right(pulled);
  EXPECT_THAT(names_in(cache().snapshot("org/name", TestHub::kCommit)), ElementsAre(kGguf));
  EXPECT_EQ(cache().find(options_.source), pulled->path);
}

TEST_F(Pull, WhatTheRepositoryLacksIsNamed) {
  const auto error_without = [&](const std::string& file) {
    auto files = sharded_model();
    files.erase(file);
    start(files);
    const auto pulled = run();
    return pulled ? std::string{} : pulled.error().message;
  };
  EXPECT_THAT(error_without("tokenizer.json"), HasSubstr("has no tokenizer.json"));
  EXPECT_THAT(error_without("config.json"), HasSubstr("has no config.json"));
  EXPECT_THAT(error_without(kShard), HasSubstr(kShard));
  EXPECT_THAT(error_without("model.safetensors.index.json"),
              AllOf(HasSubstr("has no model.safetensors"), HasSubstr("org/name:name.Q4_1.gguf")));
  start_gguf();
  options_.source.file = "other.gguf";
  EXPECT_THAT(run().error().message, HasSubstr("has no other.gguf"));
  EXPECT_THAT(ranges("model-0"), IsEmpty());
}

TEST_F(Pull, AHubThatListsNamesOnlyIsAskedForEachFile) {
  start(sharded_model());
  hub_->list_names_only();

  const auto pulled = run();

  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_TRUE(content_of(pulled->path / kShard) == hub_->files().at(kShard).content);
  // A signed link may be good for GET only.
  for (const Asked& asked : hub_->storage().asked()) EXPECT_EQ(asked.method, "GET");
}

TEST_F(Pull, AnAnswerThatIsNoListIsAnError) {
  for (const char* text :
       {"", "<html>", "[]", "{}", R"({"siblings":[]})", R"({"sha":"../../etc","siblings":[]})"}) {
    start(sharded_model());
    hub_->meddle_with_hub([=](const Asked&, const std::string&) { return answer(200, text); });

    const auto pulled = run();

    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code, ErrorCode::kCorruptFile) << text;
  }
}

TEST_F(Pull, NamesThatLeadOutOfTheFolderAreNotTaken) {
  auto files = sharded_model();
  files["model.safetensors.index.json"].content =
      R"({"weight_map":{"a":"../../../../escaped.safetensors"}})";
  files["../../../../escaped.safetensors"] = {"x", true};
  start(files);

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kCorruptFile);
}

TEST_F(Pull, TooLittleRoomIsSaidBeforeAnythingIsFetched) {
  start_gguf();
  hub_->meddle_with_hub([](const Asked&, std::string bytes) {
    std::string body = bytes.substr(bytes.find("\r\n\r\n") + 4);
    const std::size_t at = body.find("\"size\":50000");
    if (at != std::string::npos) body.replace(at, 12, "\"size\":5000000000000000000");
    return answer(200, body);
  });

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kIo);
  EXPECT_THAT(pulled.error().message, HasSubstr("needs 5000000000.0 GB more"));
  EXPECT_THAT(ranges(kGguf), IsEmpty());
}

TEST_F(Pull, ACacheThatCannotBeWrittenIsNamed) {
  start_gguf();
  std::ofstream{folder_ / "file"} << "in the way";
  options_.environment.cache = folder_ / "file/hub";

  const auto pulled = run();

  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kIo);
  EXPECT_THAT(pulled.error().message, HasSubstr(options_.environment.cache.string()));
}

TEST_F(Pull, OfflineOnlyTheCacheIsAsked) {
  start_gguf();
  options_.environment.offline = true;

  const auto missing = run();
  options_.environment.offline = false;
  const auto pulled = run();
  options_.environment.offline = true;
  const auto there = run();

  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message,
              AllOf(HasSubstr("HF_HUB_OFFLINE"), HasSubstr("org/name:name.Q4_1.gguf")));
  ASSERT_TRUE(pulled && there);
  EXPECT_EQ(there->path, pulled->path);
  EXPECT_EQ(there->commit, TestHub::kCommit);
  EXPECT_THAT(hub_->hub().asked("/api/"), SizeIs(1));
}

}  // namespace
}  // namespace mlxs::hub
