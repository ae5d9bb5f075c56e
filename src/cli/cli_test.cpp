// The real binary, as a user types it.
#include "base/version.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace mlxs::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

struct Ended {
  int status = -1;
  std::string output;  ///< stdout and stderr.
};

/// Runs `mlx-serving ARGUMENTS` in an empty folder with an empty home.
class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    std::string path = ::testing::TempDir() + "mlxs-cli-XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~CliTest() override { fs::remove_all(folder_); }

  Ended run(const std::string& arguments) const {
    const std::string command = "cd " + folder_.string() +
                                " && env -u XDG_CONFIG_HOME HOME=" + folder_.string() +
                                " " MLXS_BINARY " " + arguments + " 2>&1";
    Ended ended;
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    char bytes[4096];
    while (const std::size_t length = std::fread(bytes, 1, sizeof(bytes), pipe))
      ended.output.append(bytes, length);
    const int status = ::pclose(pipe);
    ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ended;
  }

  void write(const fs::path& name, const std::string& text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream{folder_ / name} << text;
  }

  fs::path folder_;
};

TEST_F(CliTest, HelpNamesTheCommandsAndHidesTheGateway) {
  const Ended help = run("--help");

  EXPECT_EQ(help.status, 0);
  for (const char* command : {"serve", "chat", "pull", "config", "version"})
    EXPECT_THAT(help.output, HasSubstr(command));
  EXPECT_THAT(help.output, Not(HasSubstr("gateway")));
}

TEST_F(CliTest, VersionPrintsTheVersion) {
  EXPECT_EQ(run("version").output, "mlx-serving " + std::string{kVersion} + "\n");
}

TEST_F(CliTest, AWrongCommandLineEndsWithTwo) {
  EXPECT_EQ(run("").status, 2);
  EXPECT_EQ(run("sevre").status, 2);
  EXPECT_THAT(run("sevre").output, HasSubstr("no command sevre"));
  EXPECT_EQ(run("serve --no-such-option").status, 2);
  EXPECT_EQ(run("chat --temperature warm").status, 2);
}

TEST_F(CliTest, WithoutAConfigurationItSaysWhereItLooked) {
  const Ended served = run("serve");

  EXPECT_EQ(served.status, 1);
  EXPECT_THAT(served.output, HasSubstr("./config/default.yaml"));
  EXPECT_THAT(served.output, HasSubstr(".config/mlx-serving/config.yaml"));
  EXPECT_THAT(served.output, HasSubstr("--config FILE"));
}

TEST_F(CliTest, TheFolderComesBeforeTheHome) {
  write(".config/mlx-serving/config.yaml", "threads: 1\n");
  EXPECT_THAT(run("config show").output, HasSubstr("threads: 1"));

  write("config/default.yaml", "threads: 2\n");
  EXPECT_THAT(run("config show").output, HasSubstr("threads: 2"));

  write("given.yaml", "threads: 3\n");
  EXPECT_THAT(run("config show --config given.yaml").output, HasSubstr("threads: 3"));
  EXPECT_THAT(run("config show --config given.yaml --set threads=4").output,
              HasSubstr("threads: 4"));
}

TEST_F(CliTest, WhatShowPrintsChecks) {
  write("a.yaml", "models: [ { id: m, source: m.gguf } ]\n");
  write("b.yaml", run("config show --config a.yaml --set 'models[0].workers=2'").output);

  const Ended checked = run("config check --config b.yaml");

  EXPECT_EQ(checked.status, 0);
  EXPECT_EQ(checked.output, "b.yaml: ok, 1 model\n");
}

TEST_F(CliTest, CheckNamesFileLineAndKey) {
  write("wrong.yaml", "threads: 1\nlimits: { in_flight: none }\n");

  const Ended checked = run("config check --config wrong.yaml");

  EXPECT_EQ(checked.status, 1);
  EXPECT_THAT(checked.output, HasSubstr("wrong.yaml:2: limits.in_flight: expected"));
}

TEST_F(CliTest, ServeRefusesAWrongConfigurationInTheSameWords) {
  write("wrong.yaml", "listen: 0.0.0.0:0\n");

  const Ended served = run("serve --config wrong.yaml");

  EXPECT_EQ(served.status, 1);
  EXPECT_THAT(served.output, HasSubstr("wrong.yaml:1: listen: 0.0.0.0:0 can be reached"));
}

TEST_F(CliTest, ListenIsShortForSet) {
  write("a.yaml", "threads: 1\n");

  EXPECT_THAT(run("serve --config a.yaml --listen nonsense").output,
              HasSubstr("--set: listen: expected HOST:PORT"));
}

TEST_F(CliTest, ChatSaysWhichServerIsNotThere) {
  const Ended chat = run("chat --url http://127.0.0.1:1 < /dev/null");

  EXPECT_EQ(chat.status, 1);
  EXPECT_THAT(chat.output, HasSubstr("http://127.0.0.1:1"));
}

}  // namespace
}  // namespace mlxs::cli
