#include "worker/options.h"

#include <CLI/CLI.hpp>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::worker {
namespace {

/// "" if the command line is good, else what is wrong.
std::string parse(const std::string& arguments, Options& options) {
  CLI::App command_line;
  add_options(command_line, options);
  try {
    command_line.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  const auto checked = complete(options);
  return checked ? "" : checked.error().message;
}

TEST(Options, AreWhatTheSupervisorPasses) {
  Options options;

  ASSERT_EQ(parse("--id m --source s --compute float32 --max-sequences 8 --step-tokens 128 "
                  "--latency-budget-ms 50 --first-token-ms 900 --prefix-cache off "
                  "--waiting 9 --context-tokens 512 --kv-bytes 1048576 --packed-folder p "
                  "--packed-bytes 9 --threads 2 --listen-fd 4 "
                  "--lifeline-fd 3 --log-level debug --drain-ms 5",
                  options),
            "");

  EXPECT_EQ(options.id, "m");
  EXPECT_EQ(options.source, "s");
  EXPECT_EQ(options.compute, "float32");
  EXPECT_EQ(options.sequences_max, 8);
  EXPECT_EQ(options.step_tokens_max, 128);
  EXPECT_EQ(options.latency_budget, Milliseconds{50});
  EXPECT_EQ(options.first_token_max, Milliseconds{900});
  EXPECT_FALSE(options.prefix_cache);
  EXPECT_EQ(options.waiting_max, 9);
  EXPECT_EQ(options.context_tokens_max, 512);
  EXPECT_EQ(options.kv_bytes, 1'048'576U);
  EXPECT_EQ(options.packed_folder, "p");
  EXPECT_EQ(options.packed_bytes_max, 9U);
  EXPECT_EQ(options.threads, 2);
  EXPECT_EQ(options.listen_fd, 4);
  EXPECT_EQ(options.lifeline_fd, 3);
  EXPECT_EQ(options.log_level, "debug");
  EXPECT_EQ(options.drain, Milliseconds{5});
}

TEST(Options, NameTheModelAfterItsSource) {
  for (const auto& [source, id] : {std::pair{"a/b/Model.Q4_1.gguf", "Model.Q4_1"},
                                   std::pair{"a/folder-1.5", "folder-1.5"},
                                   std::pair{"a/folder/", "folder"}}) {
    Options options;

    ASSERT_EQ(parse(std::string{"--listen :0 --source "} + source, options), "");

    EXPECT_EQ(options.id, id);
  }
}

TEST(Options, AskForExactlyOneWayToListen) {
  Options neither;
  Options both;

  EXPECT_NE(parse("--source s", neither), "");
  EXPECT_NE(parse("--source s --listen :0 --listen-fd 4", both), "");
}

TEST(Options, RefuseImpossibleValues) {
  for (const char* wrong : {"--max-sequences 0",
                            "--step-tokens 1",
                            "--waiting -1",
                            "--context-tokens 0",
                            "--compute int3",
                            "--log-level loud",
                            "--drain-ms -1",
                            "--threads -1",
                            "--kv-bytes x"}) {
    Options options;

    EXPECT_NE(parse(std::string{"--source s --listen :0 "} + wrong, options), "") << wrong;
  }
}

}  // namespace
}  // namespace mlxs::worker
