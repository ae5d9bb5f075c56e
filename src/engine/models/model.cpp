#include "engine/models/model.h"

#include "engine/models/makers.h"

#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string>

namespace mlxs::engine {
namespace {

struct Architecture {
  std::string_view model_type;
  Result<std::unique_ptr<Model>> (*make)(const Checkpoint&, WeightReader&);
};
constexpr std::array<Architecture, 7> kArchitectures = {{
    {"gemma2", make_gemma2},
    {"gemma3", make_gemma3},  // What is left of it without its eyes; see open_folder_checkpoint.
    {"gemma3_text", make_gemma3},
    {"llama", make_llama},
    {"qwen2", make_qwen2},
    {"qwen3", make_qwen3},
    {"qwen3_moe", make_qwen3_moe},
}};

}  // namespace

std::vector<std::string_view> supported_model_types() {
  std::vector<std::string_view> names;
  for (const Architecture& architecture : kArchitectures) names.push_back(architecture.model_type);
  return names;
}

Result<std::unique_ptr<Model>> make_model(const Checkpoint& checkpoint, WeightReader& weights) {
  const auto* value = checkpoint.config.if_contains("model_type");
  const std::string model_type =
      value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.model_type == model_type) return architecture.make(checkpoint, weights);
  }
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("[models] {}: architecture '{}' is not supported ({} are)",
                          checkpoint.config_file,
                          model_type,
                          fmt::join(supported_model_types(), ", ")));
}

}  // namespace mlxs::engine
