// The parts of a pull that need no hub.
#include "hub/cache.h"
#include "hub/content_hash.h"
#include "hub/environment.h"
#include "hub/fetch.h"
#include "hub/meter.h"
#include "hub/partial_file.h"
#include "hub/source.h"
#include "hub/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>

namespace mlxs::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kCommit(40, 'c');

class Folder : public ::testing::Test {
 protected:
  Folder() {
    std::string path = ::testing::TempDir() + "mlxs-hub-XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~Folder() override { fs::remove_all(folder_); }
  void write(const fs::path& name, const std::string& text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream{folder_ / name, std::ios::binary} << text;
  }
  fs::path folder_;
};

TEST(HubSource, ReadsWhatHubsCallTheirModels) {
  const std::string commit(40, 'a');
  EXPECT_EQ(parse_source("mlx-community/Qwen3-0.6B-4bit"),
            (Source{.repository = "mlx-community/Qwen3-0.6B-4bit"}));
  EXPECT_EQ(parse_source("o/n@" + commit), (Source{.repository = "o/n", .revision = commit}));
  EXPECT_EQ(parse_source("o/n@refs/pr/1"), (Source{.repository = "o/n", .revision = "refs/pr/1"}));
  EXPECT_EQ(parse_source("o/n@v1.0:dir/x.Q4_K_M.gguf"),
            (Source{.repository = "o/n", .revision = "v1.0", .file = "dir/x.Q4_K_M.gguf"}));
  for (const char* text : {"o/n", "o/n@v1", "o/n:x.gguf", "o/n@v1:x.gguf"})
    EXPECT_EQ(parse_source(text)->to_string(), text);
}

TEST(HubSource, LeavesPathsAlone) {
  for (const char* text :
       {"",     "name",     "/o/n",     "./n",       "../n",   "~/n",           "a/b/c",
        "o/",   "/n",       "o/n.gguf", "o/n:x.bin", "o/n:",   "o/n:../x.gguf", "o/n:/x.gguf",
        "o/n@", "o/n@../x", "o/n@a b",  "o /n",      "o/n--m", "o/..",          "-o/n",
        "o/n.", "o/n?x",    "o/n@a:b"})
    EXPECT_EQ(parse_source(text), std::nullopt) << text;
}

Result<Environment> environment_of(std::map<std::string, std::string> variables) {
  variables.try_emplace("HOME", "/me");
  return read_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional{found->second};
  });
}

TEST(HubEnvironment, FindsTheCacheWhereTheHubsToolsDo) {
  EXPECT_EQ(environment_of({})->cache, "/me/.cache/huggingface/hub");
  EXPECT_EQ(environment_of({{"XDG_CACHE_HOME", "/x"}})->cache, "/x/huggingface/hub");
  EXPECT_EQ(environment_of({{"HF_HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}})->cache, "/h/hub");
  EXPECT_EQ(environment_of({{"HF_HOME", "~/h"}})->cache, "/me/h/hub");
  EXPECT_EQ(environment_of({{"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HOME", "/h"}})->cache, "/old");
  EXPECT_EQ(environment_of({{"HF_HUB_CACHE", "/c"}, {"HUGGINGFACE_HUB_CACHE", "/old"}})->cache,
            "/c");
}

TEST(HubEnvironment, TakesTheEndpointAndWhetherToStayOffline) {
  EXPECT_EQ(environment_of({})->endpoint, "https://huggingface.co");
  EXPECT_EQ(environment_of({{"HF_ENDPOINT", "http://mirror:8000/hf/"}})->endpoint,
            "http://mirror:8000/hf");
  EXPECT_THAT(environment_of({{"HF_ENDPOINT", "mirror"}}).error().message,
              HasSubstr("HF_ENDPOINT"));
  for (const char* yes : {"1", "true", "ON", "Yes"})
    EXPECT_TRUE(environment_of({{"HF_HUB_OFFLINE", yes}})->offline) << yes;
  for (const char* no : {"", "0", "false", "off"})
    EXPECT_FALSE(environment_of({{"HF_HUB_OFFLINE", no}})->offline) << no;
}

TEST_F(Folder, TheTokenComesFromTheVariableElseFromTheFile) {
  write("token", "hf_file\n");
  write("elsewhere", " hf_other ");
  const std::string home = folder_.string();

  EXPECT_EQ(environment_of({{"HF_HOME", home}})->token, "hf_file");
  EXPECT_EQ(environment_of({{"HF_HOME", home}, {"HF_TOKEN", "hf_var\n"}})->token, "hf_var");
  EXPECT_EQ(environment_of({{"HF_HOME", home}, {"HF_TOKEN_PATH", home + "/elsewhere"}})->token,
            "hf_other");
  EXPECT_EQ(environment_of({{"HF_HOME", home + "/none"}})->token, "");
  const auto wrong = environment_of({{"HF_TOKEN", "hf_se\r\ncret"}});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, Not(HasSubstr("cret")));
}

TEST_F(Folder, FindsWhatOtherToolsDownloaded) {
  const std::string base = "hub/models--o--n/";
  const Cache cache{folder_ / "hub"};
  const Source source{.repository = "o/n"};
  const fs::path snapshot = folder_ / base / "snapshots" / kCommit;

  EXPECT_EQ(cache.find(source), std::nullopt);
  write(base + "refs/main", kCommit);
  write(base + "blobs/1", "{}");
  fs::create_directories(snapshot);
  for (const char* name : {"config.json", "tokenizer.json"})
    fs::create_symlink("../../blobs/1", snapshot / name);
  fs::create_symlink("../../blobs/2", snapshot / "model.safetensors");
  EXPECT_EQ(cache.find(source), std::nullopt) << "the link to the weights leads nowhere yet";
  write(base + "blobs/2", "weights");

  EXPECT_EQ(cache.find(source), snapshot);
  EXPECT_EQ(cache.find({.repository = "o/n", .revision = kCommit}), snapshot);
  EXPECT_EQ(cache.find({.repository = "o/n", .revision = "other"}), std::nullopt);
}

TEST_F(Folder, AShardedModelIsThereOnceAllItsShardsAre) {
  const std::string snapshot = "models--o--n/snapshots/" + kCommit + "/";
  const Cache cache{folder_};
  const Source source{.repository = "o/n", .revision = kCommit};
  write(snapshot + "config.json", "{}");
  write(snapshot + "tokenizer.json", "{}");
  write(snapshot + "model.safetensors.index.json",
        R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  write(snapshot + "1.safetensors", "");

  EXPECT_EQ(cache.find(source), std::nullopt);
  write(snapshot + "2.safetensors", "");

  EXPECT_EQ(cache.find(source), folder_ / snapshot.substr(0, snapshot.size() - 1));
}

TEST_F(Folder, ARefThatIsNoCommitLeadsNowhere) {
  const Cache cache{folder_};
  for (const char* text : {"", "../../../etc", "main"}) {
    write("models--o--n/refs/main", text);
    EXPECT_EQ(cache.commit_of({.repository = "o/n"}), std::nullopt) << text;
  }
}

TEST_F(Folder, AnExistingPathIsNoHubId) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  write("org/name", "");

  EXPECT_EQ(hub_source("org/name"), std::nullopt);
  EXPECT_TRUE(hub_source("org/other"));
  EXPECT_EQ(locate("org/name", {}).value(), "org/name");
  EXPECT_EQ(locate("missing.gguf", {}).value(), "missing.gguf");
  fs::current_path(before);
}

TEST(ContentHash, IsThatOfGitOrSha256) {
  // printf hello | git hash-object --stdin; printf hello | sha256sum
  const std::string git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
  const std::string sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  for (const std::string& etag : {git, sha}) {
    ContentHash hash{etag, 5};
    hash.add("he");
    hash.add("llo");
    EXPECT_EQ(hash.finish(), etag);
  }
}

TEST_F(Folder, AFullDiskIsAnErrorThatNamesFileAndReason) {
  // A limit on file size stands in for the disk: the same write fails.
  const std::atomic<bool> never{false};
  auto partial = PartialFile::open(folder_ / "blob", std::string(64, '0'), 1 << 20, never);
  ASSERT_TRUE(partial);
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  ::rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  ::rlimit small = limit;
  small.rlim_cur = 1000;
  ::setrlimit(RLIMIT_FSIZE, &small);

  const auto written = (*partial)->append(std::string(2000, 'x'));

  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
  EXPECT_THAT(written.error().message, HasSubstr("blob.incomplete: File too large"));
  EXPECT_EQ((*partial)->done(), 1000U) << "what fitted is kept";
}

TEST(HubRetries, WaitLongerEachTimeAndNeverTooLong) {
  const RetryRules rules{.first = Milliseconds{500}, .longest = Milliseconds{30'000}};
  EXPECT_EQ(backoff(rules, 1, 0.0), Milliseconds{500});
  EXPECT_EQ(backoff(rules, 1, 1.0), Milliseconds{250});
  EXPECT_EQ(backoff(rules, 3, 0.0), Milliseconds{2'000});
  EXPECT_EQ(backoff(rules, 50, 0.0), Milliseconds{30'000});
}

TEST(HubRetries, WaitAsLongAsTheHubAsks) {
  const auto wait = [](int status, const char* header, const char* value, std::int64_t now) {
    Reply reply;
    reply.status = status;
    reply.headers[header] = value;
    return asked_to_wait(reply, now);
  };
  constexpr const char* kDate = "Thu, 01 Jan 1970 00:01:40 GMT";
  EXPECT_EQ(wait(503, "retry-after", "7", 0), Milliseconds{7'000});
  EXPECT_EQ(wait(503, "retry-after", kDate, 40), Milliseconds{60'000});
  EXPECT_EQ(wait(503, "retry-after", kDate, 200), Milliseconds{0});
  EXPECT_EQ(wait(429, "ratelimit", R"("api";r=0;t=55)", 0), Milliseconds{55'000});
  EXPECT_EQ(wait(200, "ratelimit", R"("api";r=100;t=55)", 0), std::nullopt);
  EXPECT_EQ(wait(429, "retry-after", "soon", 0), std::nullopt);
  EXPECT_EQ(wait(429, "x", "", 0), std::nullopt);
}

TEST(HubUrl, EscapesAllButWhatAPathMayHave) {
  EXPECT_EQ(url_path("a/b-c_d.e~f"), "a/b-c_d.e~f");
  EXPECT_EQ(url_path("a b?c#d%\xc3\xa9"), "a%20b%3Fc%23d%25%C3%A9");
}

TEST(Meter, SaysHowMuchHowFastAndHowLong) {
  const TimePoint start{};
  Meter meter{start};
  EXPECT_EQ(meter.text({}, start), "asking for the list of files");
  EXPECT_EQ(meter.text({.done = 1'000'000, .total = 4'000'000'000}, start),
            "1.00 MB of 4.00 GB, 0 %");
  EXPECT_EQ(meter.text({.done = 1'100'000'000, .total = 4'000'000'000, .transferred = 100'000'000},
                       start + Milliseconds{1000}),
            "1.10 GB of 4.00 GB, 27 %, 100 MB/s, 29 s left");
  EXPECT_EQ(meter.text({.done = 4'000'000'000, .total = 4'000'000'000, .transferred = 100'000'000},
                       start + Milliseconds{1001}),
            "4.00 GB of 4.00 GB, 100 %, 100 MB/s");
}

TEST(Meter, FollowsTheRateOverSomeSeconds) {
  const TimePoint start{};
  Meter meter{start};
  PullProgress progress{.done = 0, .total = 1'000'000'000, .transferred = 0};
  std::string text;
  std::string steady;
  std::string later;
  for (int second = 1; second <= 40; ++second) {
    progress.transferred = progress.done += second <= 20 ? 1'000'000 : 3'000'000;
    text = meter.text(progress, start + Milliseconds{1000 * second});
    if (second == 20) steady = text;
    if (second == 22) later = text;
  }
  EXPECT_THAT(steady, HasSubstr("1.00 MB/s"));
  EXPECT_THAT(later, HasSubstr("1.66 MB/s"));
  EXPECT_THAT(text, HasSubstr("2.96 MB/s"));
}

TEST(Meter, WritesNumbersAsPeopleDo) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1'500), "1.50 kB");
  EXPECT_EQ(format_bytes(98'700'000), "98.7 MB");
  EXPECT_EQ(format_bytes(999'600'000), "1.00 GB");
  EXPECT_EQ(format_duration(Milliseconds{100}), "1 s");
  EXPECT_EQ(format_duration(Milliseconds{200'000}), "3 min 20 s");
  EXPECT_EQ(format_duration(Milliseconds{7'500'000}), "2 h 5 min");
}

}  // namespace
}  // namespace mlxs::hub
