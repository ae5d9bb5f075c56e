// R-ENG-1 by real configurations: weights of bench/tools/make_checkpoint.py, logits of the
// reference (make.py). MLXS_TEST_SIZE=full takes the large cases as well: all experts, the whole
// width, the whole window. They need python3, some 6 GB of memory and 3 GB of disk, and minutes.

#include "engine/load/config_reader.h"
#include "engine/load/mapped_file.h"
#include "engine/load/safetensors.h"
#include "engine/model_runner.h"
#include "tests/golden/driver.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_to.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlxs::engine::golden {
namespace {

// Logits reach 9; the reference adds up thousands of float32 products in another order.
constexpr float kTolerance = 1e-3f;

const std::filesystem::path kSource = MLXS_SOURCE_DIR;

struct Case {
  std::string name, config, size;
  std::int64_t bits = 0;
  int tokens = 0;
  std::vector<std::string> arguments;
};

std::vector<Case> cases() {
  const auto text = read_small_file(kSource / "tests/golden/configs/cases.json", 1 << 20).value();
  const char* size = std::getenv("MLXS_TEST_SIZE");
  const bool full = size != nullptr && std::string(size) == "full";
  std::vector<Case> result;
  const boost::json::value list = boost::json::parse(text);
  for (const auto& value : list.as_array()) {
    const auto& entry = value.as_object();
    const auto string = [&](const char* key) {
      return boost::json::value_to<std::string>(entry.at(key));
    };
    if (string("size") == "full" && !full) continue;
    result.push_back({string("name"),
                      string("config"),
                      string("size"),
                      entry.at("bits").as_int64(),
                      static_cast<int>(entry.at("tokens").as_int64()),
                      boost::json::value_to<std::vector<std::string>>(entry.at("arguments"))});
  }
  return result;
}

/// The case's checkpoint, in a folder that goes with the object.
class Folder {
 public:
  explicit Folder(const Case& test)
      : path_(fmt::format("{}/mlxs-config-{}-{}", testing::TempDir(), test.name, ::getpid())) {
    std::string command = fmt::format("python3 '{}' '{}' '{}' --bits {}",
                                      (kSource / "bench/tools/make_checkpoint.py").string(),
                                      config_file(test).string(),
                                      path_.string(),
                                      test.bits);
    for (const std::string& argument : test.arguments) command += " '" + argument + "'";
    if (std::system((command + " > /dev/null").c_str()) != 0) {
      throw std::runtime_error("no checkpoint: " + command);
    }
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  static std::filesystem::path config_file(const Case& test) {
    return kSource / "tests/golden/configs" / (test.config + ".json");
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Expected {
  std::vector<std::uint32_t> positions;
  std::vector<float> logits;  ///< [positions × vocab]
};

Expected read_expected(const Case& test) {
  const auto path = kSource / "tests/golden/configs" / (test.name + ".safetensors");
  const auto file = MappedFile::open(path).value();
  Expected expected;
  for (const TensorView& tensor : parse_safetensors(file.bytes(), test.name).value().tensors) {
    const auto fill = [&tensor](auto& to) {
      to.resize(static_cast<std::size_t>(tensor.elements()));
      std::memcpy(to.data(), tensor.bytes.data(), tensor.bytes.size());
    };
    if (tensor.name == "positions") fill(expected.positions);
    if (tensor.name == "logits") fill(expected.logits);
  }
  return expected;
}

std::vector<TokenId> prompt(int count, int vocab) {
  std::vector<TokenId> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<TokenId>((31 * i * i + 17 * i + 7) % vocab));
  }
  return tokens;
}

class RealConfigs : public testing::TestWithParam<Case> {};

// The row stops at each position it is asked about, so it is computed in chunks, the last of them a
// decode step; another row of another length goes through the same steps.
TEST_P(RealConfigs, LogitsOfARowInABatchEqualTheReference) {
  const Case& test = GetParam();
  const Expected expected = read_expected(test);
  const Folder folder(test);
  ModelOptions options;
  options.source = folder.path();
  options.compute = Compute::kFloat32;
  options.context_tokens_max = test.tokens + 1;
  options.sequences_max = 2;
  options.kv_bytes = std::uint64_t{1} << 30;
  auto runner = load_runner(options, {});
  ASSERT_TRUE(runner) << runner.error().message;
  const int vocab = (*runner)->info().vocab_size;
  const std::vector<TokenId> tokens = prompt(test.tokens, vocab);
  Driver driver(**runner);
  Row other = driver.make_row(prompt(test.tokens / 2, vocab), test.tokens);
  std::ranges::reverse(other.tokens);
  Row row = driver.make_row({}, test.tokens);
  const int chunk = test.tokens > 1000 ? 512 : 37;

  for (std::size_t i = 0; i < expected.positions.size(); ++i) {
    row.tokens.assign(tokens.begin(), tokens.begin() + expected.positions[i] + 1);
    std::vector<float> logits;
    while (row.done < std::ssize(row.tokens)) {
      driver.step({&other, &row}, chunk, [&](Row& done, std::span<const float> values) {
        if (&done == &row) logits.assign(values.begin(), values.end());
      });
    }
    const std::span<const float> theirs =
        std::span(expected.logits).subspan(i * logits.size(), logits.size());
    float worst = 0;
    for (std::size_t k = 0; k < logits.size(); ++k) {
      const float difference = std::abs(logits[k] - theirs[k]);
      worst = difference <= worst ? worst : difference;
    }
    EXPECT_LT(worst, kTolerance) << "at position " << expected.positions[i];
    EXPECT_EQ(best_token(logits), best_token(theirs)) << "at position " << expected.positions[i];
  }
  const auto& windows = (*runner)->info().windows;
  if (!windows.empty() && 2 * windows[0].tokens < test.tokens) {
    EXPECT_GT(driver.reused(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, RealConfigs, testing::ValuesIn(cases()), [](const auto& test) {
  std::string name = test.param.name;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace mlxs::engine::golden
