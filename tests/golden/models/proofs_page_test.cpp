// The table of docs/models.md that says what is proved of which family in which form. It is made
// from the tests of this program as they are registered, and from the configurations of the real
// ones, so that it cannot say more than they do. MLXS_UPDATE_DOCS=1 writes it.

#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace mlxs::engine::golden {
namespace {

namespace json = boost::json;

const std::filesystem::path kSource = MLXS_SOURCE_DIR;

/// A column: its heading, and the tests that all have to be there for a "yes".
struct Column {
  const char* heading;
  std::vector<std::string> tests;
};

const std::vector<Column>& columns() {
  static const std::vector<Column> kColumns{
      {"float32", {"Models.LogitsEqualTheReference"}},
      {"chunks, batches, shared prefix",
       {"Models.ChunkedPrefillEqualsWhole",
        "Models.BatchEqualsAlone",
        "Models.SharedPrefixEqualsCold"}},
      {"half", {"HalfPrecision.StaysNearTheReference"}},
      {"kept quantised", {"QuantisedModels.KeptQuantisedEqualsTheReference"}},
      {"default on CPU", {"DefaultMode.LogitsAreNearTheReferences"}},
      {"same bits", {"AllPacked.ChunksAndBatchesGiveTheSameBits"}},
      {"GGUF", {"GgufModels.LogitsEqualTheFolderOnes"}},
  };
  return kColumns;
}

/// Names of tests, as "Suite.Test", by the case that they take.
std::map<std::string, std::set<std::string>> registered() {
  std::map<std::string, std::set<std::string>> tests;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *all.GetTestSuite(i);
    const std::string name = suite.name();  // "Golden/Models"
    for (int k = 0; k < suite.total_test_count(); ++k) {
      const std::string test = suite.GetTestInfo(k)->name();  // "BatchEqualsAlone/llama_f32"
      const std::size_t slash = test.find('/');
      if (slash == std::string::npos) continue;
      tests[test.substr(slash + 1)].insert(
          fmt::format("{}.{}", name.substr(name.find('/') + 1), test.substr(0, slash)));
    }
  }
  return tests;
}

std::string form_of(const json::object& config, const std::filesystem::path& folder) {
  if (const json::value* quantization = config.if_contains("quantization")) {
    const json::object& form = quantization->as_object();
    std::string text = form.contains("mode") && form.at("mode") != "affine"
                           ? std::string{form.at("mode").as_string()}
                           : fmt::format("{} bit, groups of {}",
                                         form.at("bits").to_number<int>(),
                                         form.at("group_size").to_number<int>());
    for (const auto& [key, value] : form)
      if (key.starts_with("model.")) return text + ", mixed";
    return text;
  }
  switch (open_checkpoint(folder).value().tensors.at("model.norm.weight").type) {
    case TensorType::kF16:
      return "f16";
    case TensorType::kBF16:
      return "bf16";
    default:
      return "f32";
  }
}

std::string small_models() {
  std::string text = "| model_type | form | checkpoint |";
  std::string line = "|---|---|---|";
  for (const Column& column : columns()) {
    text += fmt::format(" {} |", column.heading);
    line += "---|";
  }
  text += "\n" + line + "\n";
  std::set<std::tuple<std::string, std::string, std::string>> rows;  // sorted as they are shown
  for (const auto& [name, tests] : registered()) {
    const auto folder = kSource / "tests/golden/models" / name;
    if (!tests.contains(columns().front().tests.front())) continue;
    const auto file = folder / "config.json";
    const json::object config =
        parse_json_object(read_small_file(file, 1 << 20).value(), file.string()).value();
    rows.emplace(std::string{config.at("model_type").as_string()}, form_of(config, folder), name);
  }
  const auto tests = registered();
  for (const auto& [type, form, name] : rows) {
    text += fmt::format("| {} | {} | {} |", type, form, name);
    for (const Column& column : columns()) {
      bool all = true;
      for (const std::string& test : column.tests) all = all && tests.at(name).contains(test);
      text += all ? " yes |" : " |";
    }
    text += "\n";
  }
  return text;
}

std::string real_configurations() {
  const auto file = kSource / "tests/golden/configs/cases.json";
  const json::value list = json::parse(read_small_file(file, 1 << 20).value());
  std::string text =
      "| config.json of | weights | changed | tokens | run by |\n|---|---|---|---|---|\n";
  for (const json::value& entry : list.as_array()) {
    std::string changed;
    const json::array& arguments = entry.at("arguments").as_array();
    for (std::size_t k = 0; k + 1 < arguments.size(); k += 2) {
      const std::string value{arguments[k + 1].as_string()};
      changed += fmt::format("{}{}",
                             changed.empty() ? "" : ", ",
                             arguments[k] == "--layers" ? "layers=" + value : value);
    }
    const auto bits = entry.at("bits").as_int64();
    text += fmt::format("| {} | {} | {} | {} | {} |\n",
                        std::string_view{entry.at("config").as_string()},
                        bits == 0 ? std::string{"bf16"} : fmt::format("{} bit", bits),
                        changed,
                        entry.at("tokens").as_int64(),
                        entry.at("size") == "full" ? "`make soak`" : "`make test`");
  }
  return text;
}

constexpr std::string_view kBegin = "## What is proved\n";
constexpr std::string_view kEnd = "\n## ";

std::string section() {
  return std::string{kBegin} +
         "Made from the tests themselves (`MLXS_UPDATE_DOCS=1 build/release/bin/models_test\n"
         "--gtest_filter='ProofsPage.*'`). Small random checkpoints against the reference's logits "
         "(R-ENG-1) and the laws\n"
         "(R-ENG-2); *half* is the checkpoint's own 16 bits, *same bits* are those of any chunk "
         "and "
         "batch. Texts of a real\n"
         "model are compared in `tests/golden/greedy`.\n\n" +
         small_models() +
         "\nReal configurations with random weights, as a row in a batch, in chunks and beyond the "
         "window:\n\n" +
         real_configurations();
}

TEST(ProofsPage, EqualsTheTests) {
  const auto path = kSource / "docs/models.md";
  std::ifstream file{path};
  std::stringstream text;
  text << file.rdbuf();
  std::string page = text.str();
  const std::size_t begin = page.find(kBegin);
  ASSERT_NE(begin, std::string::npos);
  const std::size_t end = page.find(kEnd, begin);
  ASSERT_NE(end, std::string::npos);

  if (std::getenv("MLXS_UPDATE_DOCS") != nullptr) {
    page.replace(begin, end - begin, section());
    std::ofstream{path} << page;
    return;
  }

  EXPECT_EQ(page.substr(begin, end - begin), section());
}

}  // namespace
}  // namespace mlxs::engine::golden
