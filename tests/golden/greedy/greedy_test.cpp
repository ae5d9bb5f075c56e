// R-ENG-1 on a real model: greedy tokens equal mlx-lm's on the same float32 weights (make.py).

#include "engine/model_runner.h"
#include "tests/golden/driver.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_to.hpp>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace mlxs::engine::golden {
namespace {

// Two float32 implementations that add in different orders differ by up to about 1e-4 in logits of
// this model's size; below four times that the reference's own choice is arbitrary.
constexpr double kEpsilon = 5e-4;

struct Case {
  std::vector<TokenId> prompt;
  std::vector<TokenId> tokens;
  std::vector<double> gaps;
};

std::vector<Case> read_cases() {
  std::ifstream file(MLXS_SOURCE_DIR "/tests/golden/greedy/smollm2_135m.json");
  std::stringstream text;
  text << file.rdbuf();
  const boost::json::value root = boost::json::parse(text.str());
  std::vector<Case> cases;
  for (const auto& row : root.at("rows").as_array()) {
    cases.push_back({boost::json::value_to<std::vector<TokenId>>(row.at("prompt")),
                     boost::json::value_to<std::vector<TokenId>>(row.at("tokens")),
                     boost::json::value_to<std::vector<double>>(row.at("gaps"))});
  }
  return cases;
}

/// Positions of the reference that were compared, up to the first near tie that went the other way.
std::size_t expect_equal(const Case& golden, const std::vector<TokenId>& tokens) {
  for (std::size_t i = 0; i < golden.tokens.size(); ++i) {
    if (tokens[i] == golden.tokens[i]) continue;
    EXPECT_LT(golden.gaps[i], kEpsilon) << "at position " << i;
    return i;
  }
  return golden.tokens.size();
}

class Greedy : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::filesystem::path model =
        MLXS_SOURCE_DIR "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    ModelOptions options;
    options.source = model;
    options.compute = Compute::kFloat32;
    options.kv_bytes = std::uint64_t{512} << 20;
    auto runner = load_runner(options, {});
    ASSERT_TRUE(runner) << runner.error().message;
    runner_ = std::move(*runner);
  }
  static void TearDownTestSuite() { runner_.reset(); }

  static inline std::unique_ptr<Runner> runner_;
};

/// A test a prompt, so that none comes near the time limit on a busy machine.
class GreedyPrompt : public Greedy, public testing::WithParamInterface<std::size_t> {};

TEST_P(GreedyPrompt, EqualsTheReferenceAlone) {
  const Case golden = read_cases().at(GetParam());
  Driver driver(*runner_);
  Row row =
      driver.make_row(golden.prompt, static_cast<int>(golden.prompt.size() + golden.tokens.size()));
  std::vector<TokenId> tokens;

  while (tokens.size() < golden.tokens.size()) {
    driver.step({&row}, 4096, [&](Row& at, std::span<const float> logits) {
      tokens.push_back(best_token(logits));
      at.tokens.push_back(tokens.back());
    });
  }

  EXPECT_EQ(expect_equal(golden, tokens), golden.tokens.size());
}
INSTANTIATE_TEST_SUITE_P(Golden, GreedyPrompt, testing::Range(std::size_t{0}, std::size_t{20}));

// R-ENG-2: all rows in mixed steps, prompts in chunks, each row starting a step after the last.
TEST_F(Greedy, EqualsTheReferenceInABatchWithChunkedPrefill) {
  const std::vector<Case> cases = read_cases();
  Driver driver(*runner_);
  std::vector<Row> rows;
  std::vector<std::vector<TokenId>> tokens(cases.size());
  for (const Case& golden : cases) {
    rows.push_back(driver.make_row(golden.prompt,
                                   static_cast<int>(golden.prompt.size() + golden.tokens.size())));
  }

  for (std::size_t started = 1, running = 1; running > 0;) {
    std::vector<Row*> active;
    for (std::size_t i = 0; i < started; ++i) {
      if (tokens[i].size() < cases[i].tokens.size()) active.push_back(&rows[i]);
    }
    running = active.size();
    driver.step(active, 7, [&](Row& row, std::span<const float> logits) {
      auto& mine = tokens[static_cast<std::size_t>(&row - rows.data())];
      mine.push_back(best_token(logits));
      row.tokens.push_back(mine.back());
    });
    if (started < rows.size()) ++started;
  }

  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(expect_equal(cases[i], tokens[i]), cases[i].tokens.size()) << "row " << i;
  }
}

}  // namespace
}  // namespace mlxs::engine::golden
