// Every range of every key, exceeded on both sides: the cases come from the list of keys itself.
#include "config/config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mlxs::config {
namespace {

std::string base_text() {
  // The largest step, so that a range is not hidden behind the rule that a step holds a batch.
  return "models: [ { id: m, source: s, batch: { step_tokens: 65536, max_sequences: 1 } } ]\n";
}

bool accepts(const std::string& key, const std::string& value) {
  const std::vector<std::string> overrides{key + "=" + value};
  return static_cast<bool>(parse(base_text(), "f", overrides));
}

class Ranges : public ::testing::TestWithParam<KeyInfo> {};

TEST_P(Ranges, BothEndsAreAcceptedAndNothingBeyond) {
  std::string key = GetParam().path;
  if (const auto at = key.find("[]"); at != std::string::npos) key.replace(at, 2, "[0]");
  const std::string& range = GetParam().range;
  const std::size_t middle = range.find(" to ");
  ASSERT_NE(middle, std::string::npos) << range;
  const std::string low = range.substr(0, middle);
  const std::string high =
      range.substr(middle + 4, range.find_first_of(", ", middle + 4) - middle - 4);

  EXPECT_TRUE(accepts(key, low)) << low;
  EXPECT_TRUE(accepts(key, high)) << high;
  if (GetParam().type == "size") {
    EXPECT_FALSE(accepts(key, "1023")) << "every size starts at 1KiB or above";
    EXPECT_FALSE(accepts(key, "1025TiB"));
    EXPECT_FALSE(accepts(key, "-1"));
  } else {
    EXPECT_FALSE(accepts(key, std::to_string(std::stoll(low) - 1)));
    EXPECT_FALSE(accepts(key, std::to_string(std::stoll(high) + 1)));
    EXPECT_FALSE(accepts(key, "9223372036854775808"));
  }
}

std::vector<KeyInfo> numeric_keys() {
  std::vector<KeyInfo> out;
  for (const KeyInfo& info : keys()) {
    if (info.type != "text" && info.type != "list of text" && info.type != "boolean")
      out.push_back(info);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Config,
                         Ranges,
                         ::testing::ValuesIn(numeric_keys()),
                         [](const ::testing::TestParamInfo<KeyInfo>& tested) {
                           std::string name;
                           for (const char c : tested.param.path) {
                             if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
                           }
                           return name;
                         });

}  // namespace
}  // namespace mlxs::config
