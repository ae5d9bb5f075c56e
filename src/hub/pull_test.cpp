// Whole pulls against a hub and a storage of their own sockets.
#include "hub/testing/pull_fixture.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>

namespace mlxs::hub {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

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
